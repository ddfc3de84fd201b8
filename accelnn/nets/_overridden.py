"""Methods that a subclass has overridden, and engines do not call."""

from collections.abc import Mapping

__all__ = ["refuse_overridden"]


def refuse_overridden(net: object, base: type, caller: str, instead: Mapping[str, str]) -> None:
    """Raise TypeError if a net has a method of its own in the place of one of its base class.

    Parameters
    ----------
    net : Net
        Its class may override methods, and so may it itself.
    base : type
        Where they are defined.
    caller : str
        What would not call them.
    instead : mapping of str to str
        The names of the methods, and what to do instead, for the message.
    """
    for name, way_out in instead.items():
        if getattr(getattr(net, name), "__func__", None) is not getattr(base, name):
            msg = (
                f"this {type(net).__name__} has a method {name} of its own, which {caller} does "
                f"not call: {way_out}"
            )
            raise TypeError(msg)
