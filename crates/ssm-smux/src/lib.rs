//! Stream multiplexer (smux v1) of Session Manager port sessions, without IO.
