//! Layers of a text model on other machines, over ggml's RPC backend.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use llama_cpp_sys_2 as sys;

use super::placement;
use crate::error::{Error, Kind, Result};

/// The wait for a machine's first answer.
const GREETING: Duration = Duration::from_secs(10);

/// The protocol's first command.
const HELLO: u8 = 14;

/// Bytes in which each side says what its transport can do.
const CAPABILITIES: usize = 24;

/// Returns the version of the library's RPC protocol: major, minor, patch.
fn protocol() -> [u8; 3] {
    // SAFETY: takes nothing, returns a number.
    let [_, major, minor, patch] = unsafe { sys::illava_rpc_version() }.to_be_bytes();
    [major, minor, patch]
}

/// A greeting: the command, the number of bytes that follow, and a transport that can do nothing special.
const fn hello() -> [u8; 9 + CAPABILITIES] {
    let mut bytes = [0; 9 + CAPABILITIES];
    (bytes[0], bytes[1]) = (HELLO, CAPABILITIES as u8);
    bytes
}

/// Makes the devices of the RPC server at `endpoint`, `host:port`, devices of this process.
///
/// If the server leaves later, the process ends with status 1 and one line: its layers are lost.
///
/// # Errors
/// [`Kind::Usage`] if no server of this build answers at the address within ten seconds.
pub(super) fn connect(endpoint: &str) -> Result<()> {
    super::backend()?;
    greet(endpoint)?;
    let address = CString::new(endpoint).map_err(|_| unreachable(endpoint, "the address has a zero byte"))?;
    // SAFETY: the address ends in a zero byte and lives until the call returns.
    super::check(unsafe { sys::illava_rpc_connect(address.as_ptr()) })
}

fn unreachable(endpoint: &str, why: impl std::fmt::Display) -> Error {
    Error::usage(format!("rpc {endpoint}: {why}; start `illava rpc` there"))
}

/// Asks the program at `endpoint` for its version, with bounds on every wait. The library's own connection has none.
fn greet(endpoint: &str) -> Result<()> {
    let fail = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => unreachable(
            endpoint,
            format_args!(
                "no answer within {} s: it works for another program, or is none",
                GREETING.as_secs()
            ),
        ),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            unreachable(endpoint, "the program there is no RPC server")
        }
        _ => unreachable(endpoint, error),
    };
    let addresses = endpoint.to_socket_addrs().map_err(fail)?;
    // The library's sockets are IPv4.
    let address = addresses.into_iter().find(|address| address.is_ipv4());
    let address = address.ok_or_else(|| unreachable(endpoint, "it has no IPv4 address"))?;
    let mut stream = TcpStream::connect_timeout(&address, GREETING).map_err(fail)?;
    stream.set_read_timeout(Some(GREETING)).map_err(fail)?;
    stream.set_write_timeout(Some(GREETING)).map_err(fail)?;
    stream.write_all(&hello()).map_err(fail)?;
    let mut answer = [0; 8 + 4 + CAPABILITIES];
    stream.read_exact(&mut answer).map_err(fail)?;
    let (size, version) = (&answer[..8], [answer[8], answer[9], answer[10]]);
    if size != (4 + CAPABILITIES as u64).to_le_bytes() {
        return Err(unreachable(endpoint, "the program there is no RPC server"));
    }
    if version != protocol() {
        let dotted = |[major, minor, patch]: [u8; 3]| format!("{major}.{minor}.{patch}");
        return Err(unreachable(
            endpoint,
            format_args!("its RPC protocol is {}, this program's {}", dotted(version), dotted(protocol())),
        ));
    }
    Ok(())
}

/// Computes for other machines until the process ends; `ready` is told the address before the first of them comes.
///
/// # Errors
/// [`Kind::Usage`] for an address that cannot be listened on and for devices that are not there.
pub fn serve(
    address: Ipv4Addr,
    port: u16,
    devices: &[String],
    threads: u32,
    cache: Option<&Path>,
    ready: impl FnOnce(SocketAddrV4),
) -> Result<()> {
    super::backend()?;
    let devices = placement::to_serve(devices)?;
    let cache = cache.map(super::c_path).transpose()?;
    let fail = |error: io::Error| Error::usage(format!("{address}:{port}: cannot listen there ({error})"));
    // The library says nothing of why it cannot listen, and takes no port 0.
    let address = match TcpListener::bind((address, port)).and_then(|listener| listener.local_addr()) {
        Ok(std::net::SocketAddr::V4(address)) => address,
        Ok(other) => return Err(fail(io::Error::other(other.to_string()))),
        Err(error) => return Err(fail(error)),
    };
    let endpoint =
        CString::new(address.to_string()).map_err(|error| Error::new(Kind::Native, error.to_string()))?;
    ready(address);
    let cache = cache.as_ref().map_or(std::ptr::null(), |path| path.as_ptr());
    // SAFETY: both texts end in a zero byte, the devices are the registry's, and all live until the call returns.
    super::check(unsafe {
        sys::illava_rpc_serve(
            endpoint.as_ptr(),
            cache,
            i32::try_from(threads).unwrap_or(i32::MAX),
            devices.as_ptr(),
            devices.len(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answering(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut hello()).unwrap();
            stream.write_all(&answer).unwrap();
        });
        address
    }

    #[test]
    fn who_is_no_server_is_told() {
        let right = [&28u64.to_le_bytes()[..], &protocol(), &[0; 25]].concat();
        assert!(greet(&answering(right.clone())).is_ok());
        let stock = [&28u64.to_le_bytes()[..], &[7, 0, 0], &[0; 25]].concat();
        for (answer, part) in [
            (stock, "its RPC protocol is 7.0.0"),
            (b"HTTP/1.1 400 Bad Request, and more of it".to_vec(), "no RPC server"),
            (Vec::new(), "no RPC server"),
        ] {
            let error = greet(&answering(answer)).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains(part), "{error}");
        }
        for (endpoint, part) in
            [("127.0.0.1", "rpc 127.0.0.1: "), ("[::1]:1", "no IPv4"), ("127.0.0.1:1", "illava rpc")]
        {
            let error = greet(endpoint).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
