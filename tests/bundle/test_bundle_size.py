from pathlib import Path

from tools import bundle_size


def test_a_folder_has_its_hash_by_content_names_and_modes(tmp_path: Path) -> None:
    one, other = _bundle(tmp_path / "one"), _bundle(tmp_path / "other")
    same = bundle_size.content_hash(one)
    assert bundle_size.content_hash(other) == same
    (other / "six.py").chmod(0o755)
    assert bundle_size.content_hash(other) != same
    (other / "six.py").chmod(0o644)
    (other / "six.py").write_text("7")
    assert bundle_size.content_hash(other) != same
    (other / "six.py").write_text("6")
    (other / "six.py").rename(other / "seven.py")
    assert bundle_size.content_hash(other) != same


def test_the_table_has_a_row_for_each_package_and_one_for_all(tmp_path: Path) -> None:
    heading, *rows = bundle_size.table(_bundle(tmp_path)).splitlines()
    assert heading.split() == ["package", "files", "MB", "MB", "zipped"]
    assert [(row[:28].strip(), int(row[28:35])) for row in rows] == [
        ("large", 1),
        ("six", 2),
        ("(licences and versions)", 1),
        ("all", 4),
    ]


def _bundle(folder: Path) -> Path:
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "large").mkdir()
    (folder / "six-1.0.dist-info").mkdir()
    (folder / "six.py").write_text("6")
    (folder / "__pycache__" / "six.cpython-313.pyc").write_bytes(b"6")
    (folder / "large" / "data.txt").write_text("".join(map(str, range(1000))))
    (folder / "six-1.0.dist-info" / "METADATA").write_text("6")
    return folder
