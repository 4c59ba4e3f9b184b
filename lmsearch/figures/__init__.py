"""Every figure. Functions take plain numbers and return a Figure; none touches the state of pyplot."""
