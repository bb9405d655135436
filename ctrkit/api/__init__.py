"""What each command does, as one function: the place where the rooms of the road are joined."""
