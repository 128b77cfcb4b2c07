"""TFDS builder `ijbb`: IJB-B, one record a template."""

from fpsset.data.builders.ijb import IjbBuilder


class Ijbb(IjbBuilder):
    """IJB-B."""

    TITLE = "IJB-B"
    CITATION = """@inproceedings{whitelam2017iarpa,
  title     = {{IARPA} {Janus} Benchmark-{B} Face Dataset},
  author    = {Whitelam, Cameron and Taborsky, Emma and Blanton, Austin and Maze, Brianna and others},
  booktitle = {CVPR Workshops},
  year      = {2017}
}"""
