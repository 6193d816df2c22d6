use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;

use super::*;

const SOON: Duration = Duration::from_secs(5);

fn pair() -> (QgaClient<UnixStream>, BufReader<UnixStream>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (QgaClient::new(ours), BufReader::new(theirs))
}

/// What the guest is told next, without a delimiter before it.
async fn hear(guest: &mut BufReader<UnixStream>) -> Value {
    let mut line = Vec::new();
    guest.read_until(b'\n', &mut line).await.unwrap();
    let text = line.strip_prefix(&[DELIMITER]).unwrap_or(&line);
    serde_json::from_slice(text).unwrap()
}

async fn say(guest: &mut BufReader<UnixStream>, bytes: &[u8]) {
    guest.get_mut().write_all(bytes).await.unwrap();
}

/// Says the bytes as soon as it hears anything.
async fn answer(guest: &mut BufReader<UnixStream>, bytes: &[u8]) {
    hear(guest).await;
    say(guest, bytes).await;
}

#[tokio::test]
async fn what_was_left_of_an_earlier_conversation_is_passed_over() {
    let (mut client, mut guest) = pair();
    let said = b"{\"return\": {}}\n\xff{\"return\": 6}\nhalf a li\xff{\"return\": 7}\n";
    let (synced, ()) = tokio::join!(client.sync(7, SOON), answer(&mut guest, said));
    synced.unwrap();
    let (value, ()) = tokio::join!(
        client.execute("guest-fsfreeze-freeze", SOON),
        answer(&mut guest, b"{\"return\": 2}\n")
    );
    assert_eq!(value.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_not_taken_for_the_next_ones() {
    let (mut client, mut guest) = pair();
    let error = client.execute("guest-fsfreeze-freeze", SOON).await.unwrap_err();
    assert!(matches!(error, QgaError::NoAnswer { .. }), "{error}");
    assert_eq!(hear(&mut guest).await["execute"], "guest-fsfreeze-freeze");
    let says = async {
        // Both were sent before anything was answered.
        assert_eq!(hear(&mut guest).await["arguments"]["id"], 8);
        assert_eq!(hear(&mut guest).await["execute"], "guest-fsfreeze-thaw");
        say(&mut guest, b"{\"return\": 3}\n\xff{\"return\": 8}\n{\"return\": 1}\n").await;
    };
    let (value, ()) = tokio::join!(client.execute_anew(8, "guest-fsfreeze-thaw", SOON), says);
    assert_eq!(value.unwrap(), 1);
}

#[tokio::test]
async fn a_refusal_carries_the_guests_words_without_what_moves_a_terminal() {
    let (mut client, mut guest) = pair();
    let said = b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\u001b[2J, never\"}}\n";
    let refused = client.execute("guest-fsfreeze-freeze", SOON);
    let (refused, ()) = tokio::join!(refused, answer(&mut guest, said));
    let text = refused.unwrap_err().to_string();
    assert_eq!(text, "\"guest-fsfreeze-freeze\" was refused: no [2J, never");
}

#[tokio::test(start_paused = true)]
async fn silence_half_an_answer_and_an_end_are_told_apart_and_end_in_time() {
    let (mut client, _guest) = pair();
    assert!(matches!(client.sync(1, SOON).await.unwrap_err(), QgaError::NoAnswer { .. }));

    let (mut client, mut guest) = pair();
    let (half, ()) = tokio::join!(client.sync(1, SOON), answer(&mut guest, b"\xff{\"return\": 1"));
    assert!(matches!(half.unwrap_err(), QgaError::NoAnswer { .. }));

    let (mut client, guest) = pair();
    drop(guest);
    let error = client.sync(1, SOON).await.unwrap_err();
    assert!(matches!(error, QgaError::Closed | QgaError::Io(_)), "{error}");
}

#[tokio::test]
async fn a_flood_is_not_read_to_its_end() {
    for unit in [&b"x"[..], b"\xff", b"\xff{\"return\": 0}\n", b"\xff\n"] {
        let (mut client, mut guest) = pair();
        let flood = unit.repeat(MAX_PASSED_OVER_BYTES / unit.len() * 4);
        let says = async {
            // The client stops reading somewhere in it.
            let _ = guest.get_mut().write_all(&flood).await;
        };
        let (synced, ()) = tokio::join!(
            async {
                let synced = client.sync(1, SOON * 12).await;
                drop(client);
                synced
            },
            says
        );
        let error = synced.unwrap_err();
        assert!(matches!(error, QgaError::Protocol(_)), "{error}");
    }
    let (mut client, mut guest) = pair();
    let says = async {
        let _ = guest.get_mut().write_all(&vec![b'x'; MAX_LINE_BYTES * 2]).await;
    };
    let told = async {
        let told = client.execute("guest-fsfreeze-status", SOON * 12).await;
        drop(client);
        told
    };
    let (told, ()) = tokio::join!(told, says);
    assert!(matches!(told.unwrap_err(), QgaError::Protocol(_)));
}

mod fuzz {
    use super::*;

    /// A guest says anything at all.
    #[test]
    fn hostile_bytes_are_an_error_or_an_answer_and_never_panic() {
        let said = b"{\"return\": {}}\n\xff{\"return\": 7}\n{\"return\": \"thawed\"}\n\
                     {\"return\": 2}\n{\"error\": {\"class\": \"x\", \"desc\": \"no\"}}\n";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        weft_fuzz::fuzz(500, weft_fuzz::hostile(vec![said.to_vec()]), |bytes| {
            runtime.block_on(async {
                let (mut client, mut guest) = pair();
                let says = async {
                    let _ = guest.get_mut().write_all(&bytes).await;
                    // What it is told is read, or the end would be a reset that loses its words.
                    let _ = guest.get_mut().shutdown().await;
                };
                let talks = async {
                    client.sync(7, SOON).await?;
                    client.execute("guest-fsfreeze-status", SOON).await?;
                    client.execute("guest-fsfreeze-freeze", SOON).await?;
                    client.execute_anew(7, "guest-fsfreeze-thaw", SOON).await
                };
                let (talked, ()) = tokio::join!(talks, says);
                if let Err(error) = talked {
                    assert!(!error.to_string().contains('\u{1b}'), "{error}");
                }
            });
            Ok(())
        });
    }
}
