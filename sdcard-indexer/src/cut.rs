//! Cutting: the keyframe-aligned byte ranges that hold a time range, and what a player needs to use them.
