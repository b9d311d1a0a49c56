//! Open files between driver and shim, over the control socket, and a terminal's as a stream. It must never close what it did
//! not open.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::Interest,
    net::{UnixStream, unix::pipe},
};

/// Descriptors that go at once: standard input, output and error.
const MAX: usize = 3;

/// Sends descriptors, with one byte that carries them.
pub(super) async fn send(to: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let once = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
        }
        sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
        Ok(())
    };
    to.async_io(Interest::WRITABLE, once).await
}

/// Receives what [`send`] sent.
pub(super) async fn receive(from: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let once = || {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut byte)];
        recvmsg(from, into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        Ok(descriptors)
    };
    from.async_io(Interest::READABLE, once).await
}

/// The near end of a terminal, to write, to read, and to resize it by. Readiness of a terminal and of a pipe are one thing to
/// the system, and so the two halves are tokio's for pipes.
pub(super) fn terminal(near: OwnedFd) -> io::Result<(pipe::Sender, pipe::Receiver, OwnedFd)> {
    let flags = rustix::fs::fcntl_getfl(&near)?;
    rustix::fs::fcntl_setfl(&near, flags | rustix::fs::OFlags::NONBLOCK)?;
    let input = pipe::Sender::from_owned_fd_unchecked(near.try_clone()?)?;
    let output = pipe::Receiver::from_owned_fd_unchecked(near.try_clone()?)?;
    Ok((input, output, near))
}

/// Gives a terminal another size.
pub(super) fn resize(terminal: &OwnedFd, columns: u16, rows: u16) -> io::Result<()> {
    let size =
        rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}
