"""How neighbours' votes become a prediction. Pure: no input or output, no clocks, no randomness."""
