//! SPDY/3.1 frames, as far as Kubernetes' clients use them: streams that the client opens, their bytes, pings. No flow control,
//! which those clients do not have either. It must never take a frame's word for how much memory it needs.

use std::{io, sync::LazyLock};

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes of a control frame.
const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a stream's headers, unpacked.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a data frame that are handed on at a time.
const PIECE_BYTES: usize = 32 * 1024;

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
/// Why a stream is reset: it is not wanted.
const REFUSED_STREAM: u32 = 3;

/// What both sides' header compression starts from: Appendix of the SPDY/3 draft. Words with their lengths, then text.
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
keep-alive origin";
    const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
    let mut dictionary = Vec::new();
    for word in WORDS.split_ascii_whitespace() {
        let word = word.replace('_', " ");
        dictionary.put_u32(u32::try_from(word.len()).unwrap_or_default());
        dictionary.extend(word.bytes());
    }
    dictionary.extend(TEXT.bytes());
    dictionary
});

/// A client's frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A stream begins.
    Open { id: u32, headers: Vec<(String, String)>, fin: bool },
    /// Bytes of a stream; a long frame comes in pieces, the last of which has its `fin`.
    Data { id: u32, bytes: Bytes, fin: bool },
    /// A stream is given up.
    Reset { id: u32 },
    /// To be sent back.
    Ping { id: u32 },
    /// The client goes.
    GoAway,
}

/// Reads frames.
pub(super) struct Reader<R> {
    from: R,
    unpack: Decompress,
    /// The data frame under way: its stream, bytes still to come, and whether it ends the stream.
    under_way: Option<(u32, usize, bool)>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, unpack: Decompress::new(true), under_way: None }
    }

    /// The next frame; `None` at the end. Not to be dropped half way.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((id, left, fin)) = self.under_way.take() {
                let mut bytes = BytesMut::zeroed(left.min(PIECE_BYTES));
                self.from.read_exact(&mut bytes).await?;
                let left = left - bytes.len();
                if left > 0 {
                    self.under_way = Some((id, left, fin));
                }
                return Ok(Some(Frame::Data { id, bytes: bytes.freeze(), fin: fin && left == 0 }));
            }
            let mut head = [0; 8];
            match self.from.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                other => other?,
            };
            let [a, b, c, d, flags, e, f, g] = head;
            let length = usize::try_from(u32::from_be_bytes([0, e, f, g])).unwrap_or(usize::MAX);
            let fin = flags & FIN != 0;
            if a & 0x80 == 0 {
                self.under_way = Some((u32::from_be_bytes([a, b, c, d]), length, fin));
                continue;
            }
            if u16::from_be_bytes([a & 0x7f, b]) != VERSION || length > CONTROL_BYTES_MAX {
                return Err(broken("a control frame of another version, or too long"));
            }
            let mut body = vec![0; length];
            self.from.read_exact(&mut body).await?;
            if let Some(frame) = self.control(u16::from_be_bytes([c, d]), fin, &body)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, fin: bool, body: &[u8]) -> io::Result<Option<Frame>> {
        let number = || {
            let bytes = body.first_chunk::<4>().ok_or_else(|| broken("a control frame is cut"))?;
            Ok::<_, io::Error>(u32::from_be_bytes(*bytes))
        };
        Ok(match kind {
            SYN_STREAM => {
                let packed = body.get(10..).ok_or_else(|| broken("a stream's opening is cut"))?;
                let headers = headers(&self.unpacked(packed)?)?;
                Some(Frame::Open { id: number()? & 0x7fff_ffff, headers, fin })
            }
            RST_STREAM => Some(Frame::Reset { id: number()? & 0x7fff_ffff }),
            PING => Some(Frame::Ping { id: number()? }),
            GOAWAY => Some(Frame::GoAway),
            // A reply has headers too, which the next ones build upon; servers open no streams here, so there is none.
            SYN_REPLY | 8 => return Err(broken("a frame that a client has no reason to send")),
            // Settings and windows, which nobody keeps to.
            _ => None,
        })
    }

    fn unpacked(&mut self, mut packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = vec![0; HEADER_BYTES_MAX];
        let mut length = 0;
        while !packed.is_empty() {
            let (had, made) = (self.unpack.total_in(), self.unpack.total_out());
            let room = out.get_mut(length..).unwrap_or_default();
            let status = self.unpack.decompress(packed, room, FlushDecompress::Sync);
            let taken = count(self.unpack.total_in() - had);
            length += count(self.unpack.total_out() - made);
            packed = packed.get(taken..).unwrap_or_default();
            match status {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.unpack.set_dictionary(&DICTIONARY).map_err(io::Error::other)?;
                }
                Err(error) => return Err(io::Error::other(error)),
                Ok(Status::Ok) if taken > 0 && length < HEADER_BYTES_MAX => {}
                Ok(_) if packed.is_empty() && length < HEADER_BYTES_MAX => {}
                Ok(_) => return Err(broken("a stream's headers are too long")),
            }
        }
        out.truncate(length);
        Ok(out)
    }
}

fn count(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Names and values, each after its length.
fn headers(mut block: &[u8]) -> io::Result<Vec<(String, String)>> {
    fn number(block: &mut &[u8]) -> io::Result<usize> {
        let (head, rest) =
            block.split_first_chunk::<4>().ok_or_else(|| broken("headers are cut"))?;
        *block = rest;
        Ok(usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX))
    }
    fn text(block: &mut &[u8]) -> io::Result<String> {
        let length = number(block)?;
        let (text, rest) =
            block.split_at_checked(length).ok_or_else(|| broken("headers are cut"))?;
        *block = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }
    let block = &mut block;
    let mut headers = Vec::new();
    for _ in 0..number(block)? {
        let name = text(block)?.to_ascii_lowercase();
        headers.push((name, text(block)?));
    }
    Ok(headers)
}

/// The value of a header.
pub(super) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
}

/// A server's frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The stream is taken.
    Reply {
        id: u32,
    },
    Data {
        id: u32,
        bytes: Bytes,
        fin: bool,
    },
    /// The stream is not wanted.
    Reset {
        id: u32,
    },
    /// The same back, or one of the server's own, whose ids are even.
    Ping {
        id: u32,
    },
    /// Nothing more comes.
    GoAway,
}

/// Writes frames.
pub(super) struct Writer<W> {
    to: W,
    pack: Compress,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(to: W) -> io::Result<Self> {
        let mut pack = Compress::new(Compression::fast(), true);
        pack.set_dictionary(&DICTIONARY).map_err(io::Error::other)?;
        Ok(Self { to, pack })
    }

    pub(super) async fn send(&mut self, answer: Answer) -> io::Result<()> {
        let mut frame = BytesMut::new();
        match answer {
            Answer::Reply { id } => {
                let mut body = id.to_be_bytes().to_vec();
                body.extend(self.no_headers()?);
                control(&mut frame, SYN_REPLY, &body);
            }
            Answer::Reset { id } => {
                let body = [id.to_be_bytes(), REFUSED_STREAM.to_be_bytes()].concat();
                control(&mut frame, RST_STREAM, &body);
            }
            Answer::Ping { id } => control(&mut frame, PING, &id.to_be_bytes()),
            Answer::GoAway => control(&mut frame, GOAWAY, &[0; 8]),
            Answer::Data { id, bytes, fin } => {
                frame.put_u32(id);
                frame.put_u8(if fin { FIN } else { 0 });
                frame.put_uint(bytes.len() as u64, 3);
                frame.extend_from_slice(&bytes);
            }
        }
        self.to.write_all(&frame).await?;
        self.to.flush().await
    }

    fn no_headers(&mut self) -> io::Result<Vec<u8>> {
        let mut packed = Vec::with_capacity(64);
        let none = 0_u32.to_be_bytes();
        self.pack
            .compress_vec(&none, &mut packed, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        Ok(packed)
    }

    /// Says that nothing more comes.
    pub(super) async fn close(mut self) {
        // The caller may be gone.
        let _unheard = self.to.shutdown().await;
    }
}

fn control(frame: &mut BytesMut, kind: u16, body: &[u8]) {
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u32(u32::try_from(body.len()).unwrap_or_default());
    frame.extend_from_slice(body);
}

/// A client's side, for tests.
#[cfg(test)]
pub(in crate::server) mod client {
    use super::*;

    /// The compression of a client's headers.
    pub(in crate::server) fn pack() -> Compress {
        let mut pack = Compress::new(Compression::default(), true);
        pack.set_dictionary(&DICTIONARY).unwrap();
        pack
    }

    /// The opening of a stream.
    pub(in crate::server) fn opening(
        pack: &mut Compress,
        id: u32,
        headers: &[(&str, &str)],
    ) -> Vec<u8> {
        let mut block = Vec::new();
        block.put_u32(u32::try_from(headers.len()).unwrap());
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(u32::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
        let mut packed = Vec::with_capacity(block.len() * 2 + 64);
        pack.compress_vec(&block, &mut packed, FlushCompress::Sync).unwrap();
        let mut body = [id.to_be_bytes(), [0; 4]].concat();
        body.extend([0, 0]);
        body.extend(packed);
        let mut frame = BytesMut::new();
        control(&mut frame, SYN_STREAM, &body);
        frame.to_vec()
    }

    /// Bytes of a stream.
    pub(in crate::server) fn data(id: u32, bytes: &[u8], fin: bool) -> Vec<u8> {
        let mut frame = BytesMut::new();
        frame.put_u32(id);
        frame.put_u8(u8::from(fin));
        frame.put_uint(bytes.len() as u64, 3);
        frame.extend_from_slice(bytes);
        frame.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        client::{data, opening, pack},
        *,
    };

    #[test]
    fn the_dictionary_is_the_drafts() {
        let (a, b) = DICTIONARY.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65_521;
            (a, (b + a) % 65_521)
        });
        assert_eq!((DICTIONARY.len(), b << 16 | a), (1_423, 0xe3c6_a7c2));
    }

    #[tokio::test]
    async fn streams_and_their_bytes_come_out_as_they_went_in() {
        let mut pack = pack();
        let mut wire = opening(&mut pack, 1, &[("streamType", "error"), ("port", "80")]);
        wire.extend(opening(&mut pack, 3, &[("streamType", "data"), ("port", "80")]));
        let long = vec![7; PIECE_BYTES + 5];
        wire.extend(data(3, &long, true));
        let mut reader = Reader::new(&*wire);
        for id in [1, 3] {
            let Some(Frame::Open { id: got, headers, fin: false }) = reader.next().await.unwrap()
            else {
                panic!()
            };
            assert_eq!((got, header(&headers, "port")), (id, Some("80")));
        }
        for (length, last) in [(PIECE_BYTES, false), (5, true)] {
            let Some(Frame::Data { id: 3, bytes, fin }) = reader.next().await.unwrap() else {
                panic!()
            };
            assert_eq!((bytes.len(), fin), (length, last));
        }
        assert_eq!(reader.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn headers_that_grow_without_end_and_frames_that_lie_are_refused() {
        let bomb = "x".repeat(4 * HEADER_BYTES_MAX);
        let wire = opening(&mut pack(), 1, &[("a", &bomb)]);
        assert!(wire.len() < CONTROL_BYTES_MAX);
        assert!(Reader::new(&*wire).next().await.is_err());
        let mut lies = BytesMut::new();
        lies.put_u16(0x8003);
        lies.put_u16(SYN_STREAM);
        lies.put_u32(0x00ff_ffff);
        assert!(Reader::new(&*lies).next().await.is_err());
        let mut cut = opening(&mut pack(), 1, &[("streamType", "data")]);
        cut.truncate(20);
        assert!(Reader::new(&*cut).next().await.is_err());
        assert!(headers(&[0, 0, 0, 9, 0, 0, 0, 255]).is_err());
    }

    #[tokio::test]
    async fn bytes_that_were_changed_anywhere_are_read_or_refused() {
        let mut pack = pack();
        let mut wire = opening(&mut pack, 1, &[("streamType", "error"), ("port", "80")]);
        wire.extend(data(1, b"hello", false));
        wire.extend(opening(&mut pack, 3, &[("streamType", "data"), ("port", "80")]));
        for at in 0..wire.len() {
            for change in [1, 0x40, 0xff] {
                let mut changed = wire.clone();
                changed[at] ^= change;
                let mut reader = Reader::new(&*changed);
                // Whatever it is taken for, it comes to an end.
                while let Ok(Some(_)) = reader.next().await {}
            }
        }
    }

    #[tokio::test]
    async fn answers_have_the_drafts_form() {
        let mut wire = Vec::new();
        let mut writer = Writer::new(&mut wire).unwrap();
        let bytes = Bytes::from_static(b"ab");
        writer.send(Answer::Data { id: 5, bytes, fin: true }).await.unwrap();
        writer.send(Answer::Ping { id: 2 }).await.unwrap();
        writer.send(Answer::Reply { id: 1 }).await.unwrap();
        let head = [0, 0, 0, 5, 1, 0, 0, 2, b'a', b'b', 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2];
        assert_eq!(wire.get(..head.len()).unwrap(), head);
        assert_eq!(wire.get(head.len()..head.len() + 4).unwrap(), [0x80, 3, 0, 2]);
    }
}
