"""The engine under the fast algorithms: tiles of sums in vector registers.  Open it last."""
