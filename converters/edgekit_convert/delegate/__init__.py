"""What a delegate takes of a graph, learned from the runtime itself: what it leaves outside, why, and what that costs."""
