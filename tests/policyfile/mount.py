"""A directory of policies as kubelet keeps it."""

from pathlib import Path


class Mount:
    """A ConfigMap as kubelet mounts it: an update writes a new directory and swaps one link."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 0
        path.mkdir(exist_ok=True)

    def update(self, **files: str) -> None:
        """A new version, with these files; named without .yaml."""
        self.version += 1
        new = self.path / f"..version_{self.version}"
        new.mkdir()
        for name, text in files.items():
            (new / f"{name}.yaml").write_text(text)
        (self.path / "..tmp").symlink_to(new.name)
        (self.path / "..tmp").rename(self.path / "..data")
        for name in files:
            if not (self.path / f"{name}.yaml").is_symlink():
                (self.path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
