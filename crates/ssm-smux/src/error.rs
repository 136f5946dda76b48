//! What can go wrong: the peer sent bytes that are no frame, or a call came at the wrong time.

use std::error::Error;
use std::fmt;

/// The peer sent something that is not smux version 1; the multiplexer is dead from here on.
///
/// There is no way to find the next frame again, so every stream is lost. End the session: the AWS
/// agent closes its side in the same case (smux session.go `recvLoop`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The first byte of a header is not 1. Most often the peer speaks plain TCP in basic mode, or
    /// bytes before this frame were lost.
    Version(u8),
    /// The second byte of a header is none of SYN, FIN, PSH, NOP and UPD.
    Command(u8),
    /// A frame that carries no payload says that it does, or a window update is not 8 bytes long.
    Length {
        /// The command byte of the frame.
        command: u8,
        /// Its length field, in bytes.
        length: u16,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "peer sent a frame of smux version {version}, expected 1"),
            Self::Command(command) => write!(f, "peer sent a frame with the unknown smux command {command}"),
            Self::Length { command, length } => {
                write!(f, "peer sent a frame of smux command {command} with the impossible length {length}")
            }
        }
    }
}

impl Error for FrameError {}

/// Why [`Mux::open`](crate::Mux::open) gave no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// As many streams are open as [`Config::max_streams`](crate::Config::max_streams) allows. Try
    /// again after one has ended.
    TooManyStreams,
    /// Every id was used once, and ids are not used again. Start a new session.
    IdsExhausted,
    /// Only the client side opens streams in a port session.
    ServerSide,
    /// The multiplexer died of this frame. Start a new session.
    Dead(FrameError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyStreams => f.write_str("too many streams are open"),
            Self::IdsExhausted => f.write_str("all stream ids of this session are used up"),
            Self::ServerSide => f.write_str("the server side does not open streams"),
            Self::Dead(_) => f.write_str("the multiplexer is dead"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Dead(error) => Some(error),
            Self::TooManyStreams | Self::IdsExhausted | Self::ServerSide => None,
        }
    }
}

/// Why [`Mux::push`](crate::Mux::push) gave no header. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteError {
    /// The stream was never opened, or has ended.
    UnknownStream,
    /// [`Mux::finish`](crate::Mux::finish) was called before.
    Finished,
    /// The peer has ended the stream and throws away what is still sent to it. Finish it too.
    PeerFinished,
    /// The data does not fit into one frame. Push it in parts.
    TooLong {
        /// The most that fits, in bytes: [`Config::max_frame`](crate::Config::max_frame).
        max: u16,
    },
    /// The multiplexer died of this frame. Start a new session.
    Dead(FrameError),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownStream => f.write_str("there is no such stream"),
            Self::Finished => f.write_str("the stream was finished on this side"),
            Self::PeerFinished => f.write_str("the peer has closed the stream"),
            Self::TooLong { max } => write!(f, "a frame carries at most {max} bytes"),
            Self::Dead(_) => f.write_str("the multiplexer is dead"),
        }
    }
}

impl Error for WriteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Dead(error) => Some(error),
            Self::UnknownStream | Self::Finished | Self::PeerFinished | Self::TooLong { .. } => None,
        }
    }
}
