import select


def is_quiet(descriptor: int) -> bool:
    """Say whether the other side of an idle connection has nothing to say, which would most often be goodbye."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return not poll.poll(0)
