use super::*;

const SOON: Duration = Duration::from_secs(5);
const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;

/// The other end of a connection: says what it is told to.
struct FakeQemu {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl FakeQemu {
    fn pair() -> (UnixStream, Self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = theirs.into_split();
        (ours, Self { reader: BufReader::new(reader), writer })
    }

    async fn say(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        read_message(&mut self.reader).await.unwrap()
    }

    async fn greet(&mut self) {
        self.say(GREETING).await;
        let request = self.hear().await;
        assert_eq!(request["execute"], "qmp_capabilities");
        self.say(&json!({ "return": {}, "id": request["id"] }).to_string()).await;
    }
}

async fn connected() -> (QmpClient, mpsc::Receiver<QmpEvent>, FakeQemu) {
    let (stream, mut qemu) = FakeQemu::pair();
    let (client, ()) = tokio::join!(QmpClient::connect(stream, SOON), qemu.greet());
    let (client, events) = client.unwrap();
    (client, events, qemu)
}

#[tokio::test]
async fn answers_find_their_commands_in_any_order_and_events_come_between() {
    let (client, mut events, mut qemu) = connected().await;
    let server = async {
        let first = qemu.hear().await;
        let second = qemu.hear().await;
        qemu.say(r#"{"event": "STOP", "data": {"a": 1}}"#).await;
        qemu.say(&json!({ "return": second["execute"], "id": second["id"] }).to_string()).await;
        qemu.say(&json!({ "return": first["execute"], "id": first["id"] }).to_string()).await;
    };
    let (one, two, ()) =
        tokio::join!(client.execute("one", None, SOON), client.execute("two", None, SOON), server);
    assert_eq!((one.unwrap(), two.unwrap()), (json!("one"), json!("two")));
    let event = events.recv().await.unwrap();
    assert_eq!(event, QmpEvent { name: "STOP".to_owned(), data: json!({ "a": 1 }) });
}

#[tokio::test]
async fn a_refusal_carries_qemus_words_and_is_not_retried() {
    let (client, _events, mut qemu) = connected().await;
    let server = async {
        let request = qemu.hear().await;
        let error = json!({ "class": "GenericError", "desc": "no such thing" });
        qemu.say(&json!({ "error": error, "id": request["id"] }).to_string()).await;
    };
    let (result, ()) = tokio::join!(client.execute("eject", None, SOON), server);
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "qemu refused \"eject\": no such thing");
    assert!(!error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn a_silent_qemu_meets_the_deadline_and_the_next_command_works() {
    let (client, _events, mut qemu) = connected().await;
    let error = client.execute("query-status", None, SOON).await.unwrap_err();
    assert!(matches!(error, QmpError::NoAnswer { .. }), "{error}");
    assert!(error.is_retryable());
    let server = async {
        let forgotten = qemu.hear().await;
        let request = qemu.hear().await;
        qemu.say(&json!({ "return": "late", "id": forgotten["id"] }).to_string()).await;
        qemu.say(&json!({ "return": "now", "id": request["id"] }).to_string()).await;
    };
    let (result, ()) = tokio::join!(client.execute("query-status", None, SOON), server);
    assert_eq!(result.unwrap(), json!("now"));
}

#[tokio::test(start_paused = true)]
async fn no_greeting_is_an_error_of_its_own() {
    let (stream, _qemu) = FakeQemu::pair();
    let error = QmpClient::connect(stream, SOON).await.unwrap_err();
    assert!(matches!(error, QmpError::NoGreeting(_)), "{error}");
}

#[tokio::test]
async fn a_connection_that_ends_fails_the_waiting_command_and_every_later_one() {
    let (client, mut events, mut qemu) = connected().await;
    let server = async {
        qemu.hear().await;
        drop(qemu);
    };
    let (result, ()) = tokio::join!(client.execute("one", None, SOON), server);
    assert!(matches!(result.unwrap_err(), QmpError::Closed));
    assert!(events.recv().await.is_none());
    assert!(client.is_closed());
    assert!(matches!(client.execute("two", None, SOON).await.unwrap_err(), QmpError::Closed));
}

#[tokio::test]
async fn an_endless_line_ends_the_connection() {
    let (client, mut events, mut qemu) = connected().await;
    let flood = vec![b'x'; MAX_LINE_BYTES + 2];
    // The client stops reading somewhere in the flood, so this may fail.
    let _ = qemu.writer.write_all(&flood).await;
    assert!(events.recv().await.is_none());
    assert!(client.is_closed());
}

mod fuzz {
    use super::*;

    /// A QEMU that its guest has taken over says anything at all.
    #[test]
    fn hostile_bytes_end_the_connection_or_are_passed_over_and_never_panic() {
        let said = format!(
            "{GREETING}\r\n{}\r\n{}\r\n{}\r\n",
            r#"{"return": {}, "id": 1}"#,
            r#"{"event": "DEVICE_DELETED", "data": {"device": "eni-1", "path": "/x"}}"#,
            r#"{"error": {"class": "GenericError", "desc": "no"}, "id": 2}"#,
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        weft_fuzz::fuzz(500, weft_fuzz::hostile(vec![said.into_bytes()]), |bytes| {
            runtime.block_on(async {
                let (stream, mut qemu) = FakeQemu::pair();
                let says = async {
                    // The client may have gone in the middle of it.
                    let _ = qemu.writer.write_all(&bytes).await;
                    drop(qemu);
                };
                let (connected, ()) = tokio::join!(QmpClient::connect(stream, SOON), says);
                let Ok((client, mut events)) = connected else { return };
                let answered = client.execute("query-status", None, SOON).await;
                assert!(answered.is_err() || answered.is_ok_and(|value| value.is_object()));
                while events.recv().await.is_some() {}
                assert!(client.is_closed());
            });
            Ok(())
        });
    }
}
