//! Port forwarding over Session Manager: local sockets to streams of a session.
