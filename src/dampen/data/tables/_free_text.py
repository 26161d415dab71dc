"""Free text as numbers: how often each of a column's terms is in each row, and the tf-idf of these counts.

A term is a word or a pair of words in a row; where words are not separated, as in Chinese, Japanese or Thai, a
character is a word of its own. Counting is scikit-learn's `CountVectorizer`'s, what is estimated its
`TfidfTransformer`'s: a count times `ln((1 + n) / (1 + df)) + 1` for a term in `df` of `n` rows, each row divided by its
Euclidean norm.
"""

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from dampen.data.tables._pandas_types import Series
from dampen.data.tables._values import as_text, plain

LEAST_ROWS = 5  # that a term must be in, as many as a category needs for an input of its own
MOST_TERMS = 500  # of a column
MOST_VALUES = 1 << 26  # rows times terms of all columns together: 256 MiB of float32
_CHUNK = 1 << 14  # rows at a time, so that what is in between stays small
_HASH = 0xFFFFFF  # whole numbers that float32 tells apart
_LOOKED_AT = 1000  # values that show whether a column holds text
_WORDY = 3  # words of half the values or more: names and codes have fewer
_UNSEPARATED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese beside its Chinese characters
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
TOKEN = rf"[{_UNSEPARATED}]|[^\W{_UNSEPARATED}]{{2,}}"
"""A word as a pattern: scikit-learn's own, two letters or more; or a character of a script that separates no words."""
_WORD, _CHARACTER = re.compile(TOKEN), re.compile(f"[{_UNSEPARATED}]")


def as_texts(values: Series) -> tuple[list[str], Bool[np.ndarray, " N"]]:
    """Return a column's texts in lower case, empty where one is missing, and which are missing."""
    text = plain(as_text(values))
    missing = text.isna().to_numpy(bool)
    return ["" if lacks else str(value).lower() for value, lacks in zip(text, missing, strict=True)], missing


def most_terms(n_rows: int, n_columns: int) -> int:
    """Return how many terms a column has at most, so that those of all columns fit into memory as dense numbers."""
    return max(1, min(MOST_TERMS, MOST_VALUES // max(1, n_rows * n_columns)))


def terms(texts: Sequence[str], most: int) -> tuple[str, ...]:
    """Return the most frequent terms that 5 rows or more hold, in the order of the alphabet; none where no term does.

    Args:
        texts: as `as_texts` returns them.
        most: how many.
    """
    try:
        counter = _counter(min_df=LEAST_ROWS, max_features=most).fit(texts)
    except ValueError:  # scikit-learn's for a vocabulary that is empty, or is after rare terms have been left out
        return ()
    return tuple(map(str, counter.get_feature_names_out()))


def count(texts: Sequence[str], terms: Sequence[str], counts: Float32[np.ndarray, "N terms"]) -> None:
    """Write how often each term is in each text into an array."""
    counter = _counter(vocabulary=list(terms))
    for start in range(0, len(texts), _CHUNK):
        rows = slice(start, start + _CHUNK)
        counts[rows] = counter.transform(texts[rows]).toarray()


def hashes(texts: Sequence[str]) -> Float64[np.ndarray, " N"]:
    """Return a whole number for each text, by which rows are told apart whose known terms are the same."""
    return np.array([zlib.crc32(" ".join(text.split()).encode("utf-8", "replace")) & _HASH for text in texts], float)


def inverse_frequencies(counts: Float32[np.ndarray, "N terms"]) -> Float32[np.ndarray, " terms"]:
    """Return each term's factor, estimated on training rows; 0 for a term that none of them holds."""
    from sklearn.feature_extraction.text import TfidfTransformer

    factors = TfidfTransformer().fit(counts).idf_
    return np.where(counts.any(0), factors, 0.0).astype(np.float32)


def tf_idf(
    counts: Float32[np.ndarray, "N terms"], factors: Float32[np.ndarray, " terms"]
) -> Float32[np.ndarray, "N terms"]:
    """Return counts times the terms' factors, each row divided by its norm; 0 for a row without a term."""
    weighted = counts * factors
    norms = np.sqrt(np.einsum("ij,ij->i", weighted, weighted, dtype=np.float64))[:, None].astype(np.float32)
    return np.divide(weighted, norms, out=weighted, where=norms > 0)


def has_characters(terms: Sequence[str]) -> bool:
    """Return whether some terms are of a script that separates no words."""
    return any(map(_CHARACTER.search, terms))


def looks_like_text(values: Series) -> bool:
    """Return whether half of a column's values or more have several words."""
    known = plain(as_text(values)).dropna().iloc[:_LOOKED_AT]
    wordy = [len(_WORD.findall(str(value))) >= _WORDY for value in known]
    return 2 * sum(wordy) >= max(1, len(wordy))


def _counter(**options: Any) -> Any:
    from sklearn.feature_extraction.text import CountVectorizer

    # texts are in lower case already: it would warn of a vocabulary with capitals that have no small letter
    options |= {"lowercase": False, "token_pattern": TOKEN, "ngram_range": (1, 2), "dtype": np.float32}
    return CountVectorizer(**options)
