//! What driver and shim say to each other, and how: one request and one reply per connection of the machine's control
//! socket, each a length and JSON. It must never decide anything.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use crate::local::driver::{Interactive, Spec, Status};

/// Bytes of one message: an exec's two outputs in base64 fit twice.
const MESSAGE_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// The socket's name in the machine's directory.
const SOCKET: &str = "control";

/// What the driver writes to a new shim's standard input, whole. A file would leave secrets on the disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Boot {
    pub(super) spec: Spec,
}

/// What the driver asks of a shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub(super) enum Request {
    /// End the program. The answer is the end of the connection, with the shim; a reply means a refusal.
    Stop { signal: Option<String>, timeout_ms: Option<u64> },
    /// Send the program a signal.
    Signal { signal: String },
    /// Freeze.
    Suspend,
    /// Thaw.
    Resume,
    /// Run a command.
    Exec {
        argv: Vec<String>,
        #[serde(with = "base64_bytes")]
        stdin: Vec<u8>,
        timeout_ms: u64,
    },
    /// Run a command whose streams the driver gets; see [`crate::local::process::open`].
    Open { command: Interactive },
    /// Reply when the status differs from this one, or after the timeout.
    Changed { known: Status, timeout_ms: u64 },
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply")]
pub(super) enum Reply {
    Done,
    NotRunning,
    ExecTimeout,
    /// A command runs; after this come its descriptors, and at its end another reply.
    Opened,
    /// A command that was opened has ended.
    Ended {
        code: Option<i32>,
        signal: Option<i32>,
    },
    Executed {
        code: Option<i32>,
        signal: Option<i32>,
        #[serde(with = "base64_bytes")]
        stdout: Vec<u8>,
        #[serde(with = "base64_bytes")]
        stderr: Vec<u8>,
    },
    /// It cannot be done; why, in words.
    Refused {
        why: String,
    },
}

impl Reply {
    /// A refusal with the whole error chain.
    pub(super) fn refused(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Refused { why: crate::retry::chain(error) }
    }

    /// Done, or why not.
    pub(super) fn of(result: io::Result<()>) -> Self {
        result.map_or_else(|error| Self::refused(&error), |()| Self::Done)
    }
}

/// Listens in a machine's directory.
pub(super) fn listen(directory: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(directory.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_open, path) = short_path(directory)?;
    UnixListener::bind(path)
}

/// Connects to the shim of a machine's directory.
pub(super) async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let (_open, path) = short_path(directory)?;
    UnixStream::connect(path).await
}

/// The socket's path through an open descriptor of its directory: socket paths end at 108 bytes, directories don't.
fn short_path(directory: &Path) -> io::Result<(File, PathBuf)> {
    let open = File::open(directory)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())).join(SOCKET);
    Ok((open, path))
}

/// Sends one message.
pub(super) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len())
        .ok()
        .filter(|length| *length <= MESSAGE_BYTES_MAX)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"))?;
    to.write_u32(length).await?;
    to.write_all(&text).await?;
    to.flush().await
}

/// Receives one message; `None` when the other side closed instead.
pub(super) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let length = match from.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut text = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut text).await?;
    Ok(Some(serde_json::from_slice(&text)?))
}

mod base64_bytes {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_survive_the_way_and_an_early_end_is_told_apart() {
        let (mut here, mut there) = tokio::io::duplex(64 * 1024);
        let stdout = vec![0, 255, b'\n'];
        let reply = Reply::Executed {
            code: Some(0),
            signal: None,
            stdout: stdout.clone(),
            stderr: Vec::new(),
        };
        send(&mut here, &reply).await.unwrap();
        drop(here);
        match receive(&mut there).await.unwrap() {
            Some(Reply::Executed { stdout: got, .. }) => assert_eq!(got, stdout),
            other => panic!("{other:?}"),
        }
        assert!(receive::<Reply>(&mut there).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_directory_far_longer_than_a_socket_path_will_do() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let listener = listen(&deep).unwrap();
        let (connected, accepted) = tokio::join!(connect(&deep), listener.accept());
        connected.unwrap();
        accepted.unwrap();
    }

    #[tokio::test]
    async fn a_message_without_end_is_refused() {
        let mut from: &[u8] = &u32::MAX.to_be_bytes();
        assert_eq!(
            receive::<Reply>(&mut from).await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
