//! One recording file as the index knows it.
