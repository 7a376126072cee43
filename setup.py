"""Packaging: `zoo_configs/` and `pretrained/` are installed as data of the package."""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "lipzoo/__init__.py").read_text())[1]

EXTRAS = {
    "dgl": [
        # PyPI's DGL 2.x does not import with a current PyTorch below Python 3.12: see
        # lipzoo/_environment.py. For 3.13 PyPI has none: `python -m lipzoo.install_dgl`.
        'dgl>=1.1.3,<2; python_version<"3.12"',
        'dgl==2.1.0; python_version=="3.12"',
        'pandas; python_version>="3.12"',
        'networkx; python_version>="3.13"',
        'psutil; python_version>="3.13"',
        'wheel>=0.40; python_version>="3.13"',
        "packaging",  # DGL 1.1.3 imports it without naming it
    ],
    "tensorboard": ["tensorboard>=2.10"],
    "ogb": ["ogb>=1.3.6"],
    "plots": ["matplotlib>=3.6", "networkx>=3"],
    "cuda": ["triton>=3.2"],
    "pyg": ["torch_geometric>=2.4"],
    "tables": ["pandas>=2", "pyarrow>=14"],
    "hub": ["huggingface_hub>=2"],
    "onnx": ["onnx>=1.18", "onnxscript>=0.5", "onnxruntime>=1.20"],
    "tune": ["optuna>=5", "matplotlib>=3.6"],
    "completion": ["shtab>=1.9"],
    "docs": [
        "sphinx>=8",
        "pydata-sphinx-theme>=0.16",
        "myst-nb>=1.3",
        "sphinx-design>=0.6",
        "numpydoc>=1.8",
        "itables>=2.5",
        "ipykernel>=6",
        "pandas>=2",
        "matplotlib>=3.6",
    ],
}
EXTRAS["plot"] = EXTRAS["plots"]  # as it was called before it held more than matplotlib
EXTRAS["dev"] = [
    *EXTRAS["tensorboard"],
    *EXTRAS["plots"],
    *EXTRAS["cuda"],
    *EXTRAS["pyg"],
    *EXTRAS["tables"],
    *EXTRAS["hub"],
    *EXTRAS["onnx"],
    *EXTRAS["tune"],
    *EXTRAS["completion"],
    *EXTRAS["docs"],
    'atheris>=2.3; platform_system=="Linux"',  # the search of tools/adversary_files.py
    "axe-playwright-python>=0.1",  # the site, as a person meets it: tests/site/
    "hypothesis>=6",
    "mypy>=1.8",  # the test that the public names are typed
    "playwright>=1.50",
    "psutil>=5",  # tools/scale.py modes; DGL brings it
    "mpmath>=1.3",  # references in many digits; PyTorch brings it
    "pytest>=7",
    "pytest-xdist>=3",
    "pytest-timeout>=2",
    "ruff",
    "setuptools>=68",
    "wheel",
]

setup(
    name="lipzoo",
    version=VERSION,
    description="A model zoo of deep graph attention networks on DGL, with LipschitzNorm",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The lipzoo developers",
    project_urls={"Paper": "https://arxiv.org/abs/2103.04886"},
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["lipzoo", "lipzoo.*"]),
        "lipzoo.zoo_configs",
        "lipzoo.pretrained",
    ],
    package_dir={"lipzoo.zoo_configs": "zoo_configs", "lipzoo.pretrained": "pretrained"},
    package_data={
        "lipzoo": ["py.typed"],
        "lipzoo.zoo_configs": ["*.yaml", "recipes/*.yaml", "spaces/*.yaml"],
        "lipzoo.pretrained": ["*/model.safetensors", "*/card.yaml", "*/curve.csv"],
    },
    install_requires=[
        # Where DGL is not wanted, or has no wheel: docs/without_dgl.md.
        *(() if os.environ.get("LIPZOO_WITHOUT_DGL") else EXTRAS["dgl"]),
        "torch>=2.1",
        "numba>=0.59",
        "numpy>=1.24",
        "scipy>=1.10",
        "scikit-learn>=1.6",
        "pymetis>=2025.2",
        "pyyaml>=6",
        "pydantic>=2.5",
        "safetensors>=0.4",
        "tqdm>=4.60",
        "requests>=2.28",
        "filelock>=3.21",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["lipzoo = lipzoo.cli:main"]},
)
