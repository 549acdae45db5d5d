//! Heads of HTTP requests and responses.

use std::io;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head that is read.
pub(crate) const MAX_HEAD: usize = 8 * 1024;

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the connection ended before the head of HTTP did")]
    Ended,
    #[error("the head of HTTP is longer than {MAX_HEAD} bytes or has more than {MAX_LINES} lines")]
    TooLong,
    #[error("it does not speak HTTP ({0})")]
    Malformed(&'static str),
}

/// What can be read from the front of some bytes: the value and how many bytes it took.
pub(crate) trait Parse: Sized {
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError>;
}

/// Reads a head, and what came together with it. A dropped future drops what was read.
pub(crate) async fn read<T: Parse>(io: &mut (impl AsyncRead + Unpin)) -> Result<(T, Vec<u8>), HeadError> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let room = (MAX_HEAD - before).min(CHUNK) as u64;
        if room == 0 {
            return Err(HeadError::TooLong);
        }
        if (&mut *io).take(room).read_buf(&mut bytes).await? == 0 {
            return Err(HeadError::Ended);
        }
        // Nothing new can be said in the middle of a line, except of the first.
        if (before == 0 || bytes[before..].contains(&b'\n'))
            && let Some((head, len)) = T::parse(&bytes)?
        {
            return Ok((head, bytes.split_off(len)));
        }
    }
}

impl Parse for Request<()> {
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
        let mut parsed = httparse::Request::new(&mut lines);
        let Status::Complete(len) = parsed.parse(bytes).map_err(wrong)? else { return Ok(None) };
        let mut request = Request::new(());
        let method = parsed.method.unwrap_or_default().as_bytes();
        *request.method_mut() = Method::from_bytes(method).map_err(|_| HeadError::Malformed("its method"))?;
        let target = parsed.path.unwrap_or_default();
        *request.uri_mut() = target.parse().map_err(|_| HeadError::Malformed("its target"))?;
        *request.version_mut() = version(parsed.version);
        *request.headers_mut() = headers(parsed.headers)?;
        Ok(Some((request, len)))
    }
}

impl Parse for Response<()> {
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
        let mut parsed = httparse::Response::new(&mut lines);
        let Status::Complete(len) = parsed.parse(bytes).map_err(wrong)? else { return Ok(None) };
        let mut response = Response::new(());
        let status = StatusCode::from_u16(parsed.code.unwrap_or_default());
        *response.status_mut() = status.map_err(|_| HeadError::Malformed("its status"))?;
        *response.version_mut() = version(parsed.version);
        *response.headers_mut() = headers(parsed.headers)?;
        Ok(Some((response, len)))
    }
}

fn version(minor: Option<u8>) -> http::Version {
    if minor == Some(1) { http::Version::HTTP_11 } else { http::Version::HTTP_10 }
}

fn headers(lines: &[httparse::Header<'_>]) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| HeadError::Malformed("a header"));
        let value = HeaderValue::from_bytes(line.value).map_err(|_| HeadError::Malformed("a header"));
        headers.append(name?, value?);
    }
    Ok(headers)
}

fn wrong(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooLong,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => HeadError::Malformed("a header"),
        httparse::Error::Version => HeadError::Malformed("its version"),
        httparse::Error::Status => HeadError::Malformed("its status"),
        _ => HeadError::Malformed("its first line"),
    }
}

/// Lines of a head. Browsers and proxies send some twenty.
const MAX_LINES: usize = 64;

/// Most heads are shorter.
const CHUNK: usize = 1024;
