"""Models for lipzoo, in a package of their own."""

from pathlib import Path


def add_models() -> None:
    """What the entry point in the group ``lipzoo.models`` names; lipzoo calls it once."""
    import lipzoo
    from lipzoo_tied.model import TiedGAT

    lipzoo.register_model(TiedGAT)
    lipzoo.add_config_dir(Path(__file__).parent / "zoo_configs")
