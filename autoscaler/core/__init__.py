"""The pure core: columns in, decisions out. No I/O, no clock, no logging; numpy and the pure standard library only."""
