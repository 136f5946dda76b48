//! A running Session Manager session on tokio: WebSocket, control plane, resume.
