//! Reliability state machine of a Session Manager data channel, without IO.
