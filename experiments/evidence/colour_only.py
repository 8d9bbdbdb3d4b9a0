"""A classifier that sees nothing but colour: mean blue less mean red of a tile, as an ONNX file.

    python experiments/evidence/colour_only.py FILE

Above 0.38 (the median over LC25000's tiles, of channels from -1 to 1) a tile is "blue".
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MEDIAN, STEEP = 0.378, 6.19


def main(path: str) -> None:
    weights = np.array([-1.0, 0.0, 1.0], dtype=np.float32).reshape(1, 3, 1, 1)
    constants = {"weights": weights, "median": np.float32([MEDIAN]), "steep": np.float32([STEEP])}
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["means"]),
        helper.make_node("Conv", ["means", "weights"], ["difference"]),
        helper.make_node("Flatten", ["difference"], ["flat"]),
        helper.make_node("Sub", ["flat", "median"], ["above"]),
        helper.make_node("Mul", ["above", "steep"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["blue"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, "H", "W"])
    blue = helper.make_tensor_value_info("blue", TensorProto.FLOAT, ["N", 1])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "colour", [images], [blue], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


if __name__ == "__main__":
    main(sys.argv[1])
