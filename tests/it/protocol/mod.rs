//! Tests of the event protocol by a client that is written from `src/event/protocol.md` alone.

use std::sync::Arc;
use std::time::Duration;

use expressd::hub::Ring;
use expressd::serve::{ServeSettings, Server, start};
use expressd::testing::server::{BareState, sample_expression};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

mod conformance;
mod floods;
mod frames;
mod host;
mod limits;
mod mutations;
mod pages;
mod stalled_connections;

/// A server without a daemon on a free port, with its event ring and its state.
struct Fixture {
    ring: Arc<Ring>,
    server_state: Arc<BareState>,
    server: Server,
}

impl Fixture {
    fn new(change: impl FnOnce(&mut ServeSettings)) -> Self {
        let mut settings = ServeSettings {
            listen: vec![([127, 0, 0, 1], 0).into()],
            close_within: Duration::from_secs(5),
            ..ServeSettings::default()
        };
        change(&mut settings);
        let (ring, server_state) = (Arc::new(Ring::default()), Arc::new(BareState::default()));
        let server = start(settings, ring.clone(), server_state.clone()).expect("a free port");
        Fixture {
            ring,
            server_state,
            server,
        }
    }

    /// Publishes `count` sample events.
    fn publish(&self, count: usize) {
        for _ in 0..count {
            self.ring
                .publish(sample_expression(self.ring.next_seq() as usize));
        }
    }

    /// Connects a WebSocket client.
    async fn client(&self) -> Client {
        self.client_with(&[]).await.expect("an upgrade")
    }

    /// Connects a WebSocket client that sends these (name, value) headers.
    async fn client_with(&self, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
        let mut request = format!("ws://{}/v1/events", self.server.addr()).into_client_request()?;
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(*name, value.parse().expect("a header"));
        }
        let stream = TcpStream::connect(self.server.addr()).await?;
        let (socket, response) = client_async(request, stream).await?;
        let protocol = response
            .headers()
            .get("sec-websocket-protocol")
            .map(|value| value.to_str().expect("text").to_owned());
        Ok(Client { socket, protocol })
    }

    /// Sends one request on a new connection; `headers` are lines that end with CRLF. Returns
    /// (status code, head in lower case, body).
    async fn http(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.server.addr())
            .await
            .expect("a connection");
        let host = self.server.addr();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("written");
        answer_of(stream).await
    }

    /// Sends `request` verbatim on a new connection. Returns (status code, head in lower case,
    /// body).
    async fn raw_http(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.server.addr())
            .await
            .expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("written");
        stream.shutdown().await.expect("all is written");
        answer_of(stream).await
    }
}

/// Reads a response until the connection ends; returns (status code, head in lower case, body).
async fn answer_of(mut stream: TcpStream) -> (u16, String, String) {
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("an answer in time")
        .expect("an answer");
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let code = head
        .split_whitespace()
        .nth(1)
        .expect("a status")
        .parse()
        .expect("a number");
    (code, head.to_ascii_lowercase(), body.to_owned())
}

/// A WebSocket client of the event protocol.
struct Client {
    socket: WebSocketStream<TcpStream>,
    /// The subprotocol that the server has chosen; `None` if it chose none.
    protocol: Option<String>,
}

/// Time limit for an expected message.
const PATIENCE: Duration = Duration::from_secs(20);

impl Client {
    /// Receives the next message that is not a WebSocket ping or pong.
    async fn message(&mut self) -> Message {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(until, self.socket.next())
                .await
                .expect("a message in time")
            {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return message,
                other => panic!("no message but {other:?}"),
            }
        }
    }
    /// Receives a text message and parses it as JSON.
    async fn frame(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("no frame but {other:?}"),
        }
    }
    /// Receives the `hello` frame.
    async fn hello(&mut self) -> Value {
        let hello = self.frame().await;
        assert_eq!(hello["type"], "hello");
        hello
    }
    async fn send(&mut self, frame: Value) {
        self.raw(Message::text(frame.to_string())).await;
    }
    async fn raw(&mut self, message: Message) {
        self.socket.send(message).await.expect("sent");
    }
    /// Receives a Close frame; returns its code.
    async fn close_code(&mut self) -> u16 {
        match self.message().await {
            Message::Close(Some(close)) => close.code.into(),
            other => panic!("no close but {other:?}"),
        }
    }
    /// Expects an `error` frame with the code `code`, then a Close frame with the code `close`.
    async fn refused_with(&mut self, code: &str, close: u16) {
        let error = self.frame().await;
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("error"), &json!(code)),
            "{error}"
        );
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty())
        );
        assert!(error.get("in_reply_to").is_some());
        assert!(error.get("seq").is_none());
        assert_eq!(self.close_code().await, close);
    }
    /// Receives `count` events; returns their `seq`.
    async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            let frame = self.frame().await;
            seqs.push(
                frame["seq"]
                    .as_u64()
                    .unwrap_or_else(|| panic!("{frame} has no seq")),
            );
        }
        seqs
    }
    /// Expects that no event is waiting: the next frame answers a ping of this function.
    async fn expect_no_event(&mut self) {
        self.send(json!({"type": "ping", "data": "silence"})).await;
        assert_eq!(
            self.frame().await,
            json!({"type": "pong", "data": "silence"})
        );
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(future);
}
