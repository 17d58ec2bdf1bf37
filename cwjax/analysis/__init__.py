"""From test logits to scores, from paired scores to statistics, from statistics to words."""
