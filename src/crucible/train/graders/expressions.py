# pyright: standard
# (sympy ships no types)
"""What does `2*x + sqrt(3)` mean, as a program has it? Built node by node: nothing of the text is ever run."""

import ast
from typing import Any

from crucible.errors import MissingExtraError

_FUNCTIONS = (
    *("sqrt", "cbrt", "exp", "log", "ln", "Abs", "abs", "floor", "ceiling", "gcd", "lcm"),
    *("sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "sinh", "cosh", "tanh", "Min", "Max"),
)
_SPELLED = {"abs": "Abs", "ln": "log"}
_CONSTANTS = {"pi": "pi", "E": "E", "e": "E", "I": "I", "oo": "oo", "inf": "oo", "infinity": "oo"}
_MOST_POWER = 1000
"""A power of a number beyond this is left as it stands: 9**9**9 fills no memory."""


def read_expression(text: str) -> Any | None:
    """The sympy expression that a text is in a program's notation (`^` is a power too); None if it is none.

    Names are the usual functions and constants, and symbols of one letter with digits (`x`, `x1`), which are real.

    Raises:
        MissingExtraError: if sympy is not installed.
    """
    sympy = load_sympy()
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last is how the parser says: too deep
        return None
    try:
        return _built(tree.body, sympy)
    except (ValueError, TypeError, RecursionError, OverflowError):
        return None


def load_sympy() -> Any:
    """The module.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        import sympy
    except ImportError as error:
        raise MissingExtraError.for_extra("math", needed_by="algebra on answers", module="sympy") from error
    return sympy


def _built(node: ast.expr, sympy: Any) -> Any:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return sympy.Rational(ast.unparse(node)) if isinstance(value, float) else sympy.Integer(value)
        case ast.Name(id=name):
            return _named(name, sympy)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_built(operand, sympy)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _built(operand, sympy)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_built(left, sympy), _built(right, sympy), sympy)
        case ast.BinOp(left=left, op=op, right=right):
            one, other = _built(left, sympy), _built(right, sympy)
            match op:
                case ast.Add():
                    return one + other
                case ast.Sub():
                    return one - other
                case ast.Mult():
                    return one * other
                case ast.Div():
                    return one / other
                case _:
                    raise ValueError("no operation of algebra")
        case ast.Call(func=ast.Name(id=name), args=given, keywords=[]) if name in _FUNCTIONS:
            arguments = [_built(each, sympy) for each in given]
            return getattr(sympy, _SPELLED.get(name, name))(*arguments)
        case _:
            raise ValueError("no part of an expression")


def _named(name: str, sympy: Any) -> Any:
    if name in _CONSTANTS:
        return getattr(sympy, _CONSTANTS[name])
    if len(name) == 1 or (name[0].isalpha() and name[1:].isdigit()):
        return sympy.Symbol(name, real=True)
    raise ValueError("no name of one letter")


def _power(base: Any, exponent: Any, sympy: Any) -> Any:
    small = not exponent.is_number or (exponent.is_Rational and abs(exponent) <= _MOST_POWER)
    return sympy.Pow(base, exponent, evaluate=small or base == sympy.E)
