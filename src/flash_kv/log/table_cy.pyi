from typing import Self

class SegmentTable:
    def __new__(cls, is_mapped: bool) -> Self: ...
