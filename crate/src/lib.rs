//! Counts the model calls of an OpenClaw gateway.
