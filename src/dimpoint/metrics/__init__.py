"""How good detections are: counts first, ratios after, each under the name of its protocol. No torch."""
