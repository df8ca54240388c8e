"""The texts of recorded responses, read from disk when they are asked for.

Parquet is read in large pieces, so the column is written out once as an Arrow file under the user's cache folder and mapped
into memory: processes on a machine share it, and none holds the texts.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from ..errors import DataError
from .outcomes import Outcomes

COLUMN = "response"
ROWS_AT_ONCE = 8_192


class Responses:
    """Of `union` of the outcomes of these folders, by its rows and columns.

    cache: folder for the Arrow files; None = the user's own. Opening blocks, for as long as it takes to write a file anew.
    Raises DataError where a folder's outcomes cannot be read or the cache cannot be written.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        parts: Sequence[Outcomes],
        models: Sequence[str],
        cache: Path | None = None,
    ) -> None:
        self._start = np.cumsum([0, *(len(part) for part in parts)]).tolist()
        self._parts = [
            _open(folder / "outcomes.parquet", part, models, cache or cache_folder())
            for folder, part in zip(folders, parts, strict=True)
        ]

    def text(self, q: int, m: int) -> str | None:
        """None where it was not recorded."""
        number = bisect_right(self._start, q) - 1
        part = self._parts[number]
        if part is None:
            return None
        row = int(part[1][q - self._start[number], m])
        text: str | None = None if row < 0 else part[0][row].as_py()
        return text or None


def cache_folder() -> Path:
    """Under the XDG cache folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "xrouter" / "responses"


def _open(
    path: Path, outcomes: Outcomes, models: Sequence[str], cache: Path
) -> tuple[pa.ChunkedArray, np.ndarray[tuple[int, int], np.dtype[np.int32]]] | None:
    """The texts in the order of the file, and the row of each query and model, -1 where there is none."""
    try:
        if COLUMN not in pq.read_schema(path).names:
            return None
        texts = _mapped(path, cache)
        keys = pq.read_table(path, columns=["query_id", "model"])
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"the responses of {path} cannot be read, or not be kept under {cache} (XDG_CACHE_HOME names another folder): {error}"
        ) from error
    query = {name: q for q, name in enumerate(outcomes.query_ids)}
    model = {name: m for m, name in enumerate(models)}
    row_QM = np.full((len(query), len(model)), -1, np.int32)
    pairs = zip(keys["query_id"].to_pylist(), keys["model"].to_pylist(), strict=True)
    for row, (query_id, name) in enumerate(pairs):
        row_QM[query[query_id], model[name]] = row
    return texts, row_QM


def _mapped(path: Path, cache: Path) -> pa.ChunkedArray:
    stat = path.stat()
    name = sha256(repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns)).encode()).hexdigest()[:32]
    file = cache / f"{name}.arrow"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _write(path, file)
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()[COLUMN]


def _write(path: Path, file: Path) -> None:
    """Whole or not at all; two processes may do it at once."""
    schema = pa.schema([(COLUMN, pa.large_string())])
    with NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
        try:
            with closing(pa.ipc.new_file(part, schema)) as writer, pq.ParquetFile(path) as parquet:
                for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=[COLUMN]):
                    writer.write_batch(batch.cast(schema))
            part.flush()
            os.replace(part.name, file)
        except BaseException:
            os.unlink(part.name)
            raise
