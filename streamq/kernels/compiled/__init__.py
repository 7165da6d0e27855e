"""Loops compiled by numba. Only modules that keep the state of continuous queries import them: numba takes long to load."""
