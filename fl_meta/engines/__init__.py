"""How clients train: the local loop, and two engines that run it."""
