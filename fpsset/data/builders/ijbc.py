"""TFDS builder `ijbc`: IJB-C, one record a template."""

from fpsset.data.builders.ijb import IjbBuilder


class Ijbc(IjbBuilder):
    """IJB-C."""

    TITLE = "IJB-C"
    CITATION = """@inproceedings{maze2018iarpa,
  title     = {{IARPA} {Janus} Benchmark-{C}: Face Dataset and Protocol},
  author    = {Maze, Brianna and Adams, Jocelyn and Duncan, James A. and Kalka, Nathan and others},
  booktitle = {International Conference on Biometrics},
  year      = {2018}
}"""
