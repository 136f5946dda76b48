//! What AWS's own programs write and read: frames captured between session-manager-plugin 1.2.677 and
//! amazon-ssm-agent 3.3, and what their two codecs make of odd input.
//!
//! `*.jsonl` hold one frame a line: `n`, `dir`, `kind`, `b64` (the whole frame) and, for binary frames, the header
//! fields as another program decoded them. A stand-in took the part of the service, so only its clients' frames
//! count as examples. Tokens, keys and ids were made for the capture. `header-edge-cases.jsonl` and `verdicts.tsv` are
//! described in `edge_cases.rs`.

#![expect(clippy::unwrap_used, reason = "a vector that does not parse fails its test")]

mod bodies;
mod captured;
mod edge_cases;
mod frames;
mod literal;
