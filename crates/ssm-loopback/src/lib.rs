//! The other side of Session Manager on 127.0.0.1: service, gateway and agent, for demo, tests and benches.
