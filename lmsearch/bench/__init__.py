"""What `lmsearch bench` measures: correctness gates, peers, paired timing, peak memory, growth and the machine's ceilings."""
