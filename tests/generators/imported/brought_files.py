"""Networks and files as people bring them, small."""

import json
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

KL = {
    "spatial_dims": 2,
    "channels": [8, 8],
    "num_res_blocks": 1,
    "attention_levels": [False, False],
    "latent_channels": 2,
    "norm_num_groups": 4,
    "with_encoder_nonlocal_attn": False,
    "with_decoder_nonlocal_attn": False,
}
VQ = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [4, 4],
    "num_res_layers": 1,
    "num_res_channels": [4, 4],
    "downsample_parameters": [[2, 4, 1, 1], [2, 4, 1, 1]],
    "upsample_parameters": [[2, 4, 1, 1, 0], [2, 4, 1, 1, 0]],
    "num_embeddings": 8,
    "embedding_dim": 2,
}
VAR = {
    "spatial_dims": 2,
    "in_shape": [1, 16, 16],
    "out_channels": 1,
    "latent_size": 3,
    "channels": [4, 4],
    "strides": [2, 2],
}
ARGUMENTS = {"AutoencoderKL": KL, "VQVAE": VQ, "VarAutoEncoder": VAR}


def monai_network(name: str, seed: int = 0) -> nn.Module:
    from monai.networks import nets

    torch.manual_seed(seed)
    return getattr(nets, name)(**ARGUMENTS[name]).eval()


class Halves(nn.Module):
    """A code of two numbers is how bright the two halves of an image are: what it decodes is known."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.25))

    def forward(self, codes: Tensor) -> Tensor:
        rows = (0.5 + self.gain * codes).repeat_interleave(8, dim=1)
        return rows[:, None, :, None].expand(-1, 1, 16, 16)

    @torch.jit.export
    def encode(self, images: Tensor) -> Tensor:
        return (images.reshape(-1, 2, 128).mean(dim=2) - 0.5) / self.gain

    @torch.jit.export
    def sampled(self, images: Tensor) -> Tensor:
        codes = self.encode(images)
        return codes + torch.randn_like(codes)


def lightning(folder: Path, state: dict[str, Tensor], name: str = "last.ckpt") -> Path:
    """A checkpoint as Lightning writes it, with settings of its own classes among the weights."""
    from pytorch_lightning.utilities.parsing import AttributeDict

    weight = nn.Parameter(torch.zeros(2))
    content = {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": Path("x") / "y", "best": torch.ones(())}},
        "optimizer_states": [torch.optim.Adam([weight]).state_dict()],
        "hparams_name": "kwargs",
        "hyper_parameters": AttributeDict({"network": nn.Linear(1, 1), "width": 3}),
    }
    torch.save(content, folder / name)
    return folder / name


def bundle(folder: Path, network: str = "AutoencoderKL", **arguments: object) -> Path:
    """The folder of a MONAI bundle with an untrained network."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    described = {"_target_": f"monai.networks.nets.{network}"} | ARGUMENTS[network] | arguments
    config = {"imports": ["$import os"], "latent": 2, "autoencoder_def": described, "device": "$torch.device('cpu')"}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    images = {"image": {"type": "image", "num_channels": 1, "value_range": [0, 1]}}
    metadata = {"version": "0.1.0", "network_data_format": {"inputs": images}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    torch.save(monai_network(network).state_dict(), folder / "models" / "model.pt")
    return folder


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path
