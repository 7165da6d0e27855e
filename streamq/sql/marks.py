"""What is noted at the parts of a syntax tree besides what they say: sqlglot's metadata, which copies of a tree keep.

Read a mark with `node.meta_get(…)`: `node.meta` makes a dictionary for every node that is asked, and every copy would copy it.
"""

from __future__ import annotations

from sqlglot import exp
from sqlglot.expressions.core import POSITION_META_KEYS

from streamq.sql.walks import parts

_POSITIONS = frozenset(POSITION_META_KEYS)


def forget_positions(tree: exp.Expr) -> None:
    """Take away where in its text each part stood, which sqlglot notes and nothing here asks: errors find their words in the text."""
    for node in parts(tree):
        if node._meta is not None and node._meta.keys() <= _POSITIONS:
            node._meta = None


def keep_marks(copy: exp.Expr, node: exp.Expr) -> None:
    """Note at the copy of a node what is noted at the node."""
    if node._meta:
        copy.meta.update(node._meta)
