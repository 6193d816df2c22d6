use std::time::Duration;

use axum::body::to_bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tonic::codegen::Service as _;

use super::*;
use crate::tfstate::MAX_TRANSFERS;
use crate::tfstate::tests::{Place, state};

const LOCK: &str = r#"{"ID":"a","Operation":"OperationTypeApply","Info":"","Who":"root@vm","Version":"1.15.5","Created":"2026-11-23T01:46:47.761541391Z","Path":""}"#;

/// A backend, and a client that has shown a certificate.
struct Site {
    place: Place,
    router: Router,
}

impl Site {
    async fn new() -> Self {
        let place = Place::new().await;
        let peer = Peer::of_certificate("ci".to_owned(), "192.0.2.7:5000".parse().unwrap());
        let router = routes(Arc::clone(&place.states)).layer(Extension(peer));
        Self { place, router }
    }

    fn request(method: &str, path: &str) -> axum::http::request::Builder {
        axum::http::Request::builder().method(method).uri(path)
    }

    async fn send(&self, request: Request) -> (StatusCode, HeaderMap, String) {
        let reply = self.router.clone().call(request).await.unwrap();
        let (head, body) = reply.into_parts();
        let body = to_bytes(body, 4 << 20).await.unwrap();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = Self::request(method, path).body(Body::from(body.to_owned())).unwrap();
        let (status, _, body) = self.send(request).await;
        (status.as_u16(), body)
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        let incoming = self.place.dir.path().join("tfstates/.incoming");
        assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn terraform_s_whole_round_is_answered() {
    let site = Site::new().await;
    assert_eq!(site.ask("GET", "/state/web", "").await.0, 404);
    assert_eq!(site.ask("LOCK", "/state/web", LOCK).await, (200, String::new()));
    assert_eq!(site.ask("LOCK", "/state/web", LOCK).await.0, 200);
    assert_eq!(site.ask("POST", "/state/web?ID=a", &state(1)).await, (200, String::new()));
    assert_eq!(site.ask("POST", "/state/web?ID=a", &state(2)).await.0, 200);
    assert_eq!(site.ask("UNLOCK", "/state/web", LOCK).await, (200, String::new()));
    let get = Site::request("GET", "/state/web").body(Body::empty()).unwrap();
    let (status, headers, body) = site.send(get).await;
    assert_eq!((status.as_u16(), body), (200, state(2)));
    let md5 = BASE64.encode(*md5::compute(state(2)));
    assert_eq!(headers["content-md5"], md5.as_str());
    assert_eq!(headers["content-length"], state(2).len().to_string().as_str());
    site.nothing_is_left();
}

#[tokio::test]
async fn who_comes_second_is_told_who_was_first() {
    let site = Site::new().await;
    site.ask("LOCK", "/state/web", LOCK).await;
    let second = LOCK.replace("\"a\"", "\"b\"");
    let (status, body) = site.ask("LOCK", "/state/web", &second).await;
    let told = LockInfo::parse(body.as_bytes()).unwrap();
    assert_eq!((status, told.id.as_str(), told.who.as_str()), (423, "a", "root@vm"));
    assert!(told.info.starts_with("held by root@vm (ci, 192.0.2.7:5000) for apply"), "{body}");
    // One that shows nothing but the id.
    let (_, body) = site.ask("LOCK", "/state/web", &second.replace("1.15.5", "1.11.4")).await;
    assert!(body.contains("\"ID\":\"a (held by root@vm (ci, 192.0.2.7:5000) for apply"), "{body}");

    for (method, path, body, status) in [
        ("POST", "/state/web", state(1), 423),
        ("POST", "/state/web?ID=b", state(1), 423),
        ("UNLOCK", "/state/web", second.clone(), 423),
        ("GET", "/state/web", String::new(), 404),
        // terraform force-unlock
        ("UNLOCK", "/state/web", String::new(), 200),
        ("POST", "/state/web?ID=a", state(1), 409),
        ("LOCK", "/state/web", second, 200),
    ] {
        assert_eq!(site.ask(method, path, &body).await.0, status, "{method} {path}");
    }
}

#[tokio::test]
async fn paths_lead_to_states_and_nowhere_else() {
    let site = Site::new().await;
    let long = format!("/state/{}", "x".repeat(65));
    for (path, want) in [
        ("/state/..", 400),
        ("/state/%2e%2e", 400),
        ("/state/..%2f..%2fweft.db", 400),
        ("/state/web%2f1.tfstate", 400),
        ("/state/web%00", 400),
        ("/state/.incoming", 400),
        ("/state/%ff", 400),
        ("/state/web%20x", 400),
        (long.as_str(), 400),
        ("/state/", 404),
        ("/state", 404),
        ("/state/web/", 404),
        ("/state/web/1", 404),
        ("/state/../state/web", 404),
        ("//state/web", 404),
    ] {
        for method in ["GET", "POST", "LOCK", "UNLOCK"] {
            let body = if method == "POST" { state(1) } else { LOCK.to_owned() };
            assert_eq!(site.ask(method, path, &body).await.0, want, "{method} {path}");
        }
    }
    assert!(site.place.states.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn only_what_may_be_a_state_is_stored() {
    let site = Site::new().await;
    site.ask("POST", "/state/web", &state(1)).await;
    for bad in ["", "{}", "null", "<html>", "[1]", r#"{"version":4"#] {
        let (status, text) = site.ask("POST", "/state/web", bad).await;
        assert_eq!(status, 400, "{bad}: {text}");
        assert!(text.starts_with("error: this is no Terraform state"), "{text}");
    }
    let post = Site::request("POST", "/state/web").header(CONTENT_MD5, "AAAA");
    let (status, _, text) = site.send(post.body(Body::from(state(2))).unwrap()).await;
    assert_eq!(status, 400, "{text}");
    // All of them leave the state alone; also what would remove it elsewhere.
    for method in ["DELETE", "PUT", "PATCH", "HEAD"] {
        assert_eq!(site.ask(method, "/state/web", "").await.0, 405, "{method}");
    }
    for bad in ["", "{}", "x"] {
        assert_eq!(site.ask("LOCK", "/state/web", bad).await.0, 400, "{bad}");
    }
    let long = LOCK.replace("root@vm", &"x".repeat(MAX_LOCK_BYTES));
    assert_eq!(site.ask("LOCK", "/state/web", &long).await.0, 400);
    assert_eq!(site.place.latest().await, Some(state(1)));
    site.nothing_is_left();
}

#[tokio::test]
async fn a_body_is_bounded_whatever_it_says_of_its_length() {
    let site = Site::new().await;
    let said = Site::request("POST", "/state/web").header(CONTENT_LENGTH, (1 << 20) + 1);
    let never_read = Body::from_stream(tokio_stream::pending::<std::io::Result<Bytes>>());
    assert_eq!(site.send(said.body(never_read).unwrap()).await.0, 413);
    let endless =
        tokio_stream::iter(0..).map(|_| std::io::Result::Ok(Bytes::from(vec![b' '; 4096])));
    let unsaid = Site::request("POST", "/state/web").body(Body::from_stream(endless)).unwrap();
    let (status, _, text) = site.send(unsaid).await;
    assert_eq!((status.as_u16(), text.contains("--tfstate-max-mib")), (413, true), "{text}");
    let cut = tokio_stream::iter([Ok(Bytes::from("{")), Err(std::io::Error::other("gone"))]);
    let cut = Site::request("POST", "/state/web").body(Body::from_stream(cut)).unwrap();
    assert_eq!(site.send(cut).await.0, 400);
    site.nothing_is_left();
    assert!(site.place.states.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn who_sends_too_slowly_is_not_waited_for() {
    let site = Site::new().await;
    let first = tokio_stream::once(std::io::Result::Ok(Bytes::from("{")));
    let slow = first.chain(tokio_stream::pending());
    let post = Site::request("POST", "/state/web").body(Body::from_stream(slow)).unwrap();
    let mut router = site.router.clone();
    let sent = tokio::spawn(async move { router.call(post).await.unwrap().status() });
    let incoming = site.place.dir.path().join("tfstates/.incoming");
    while std::fs::read_dir(&incoming).unwrap().count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::pause();
    assert_eq!(sent.await.unwrap(), StatusCode::REQUEST_TIMEOUT);
    site.nothing_is_left();
}

#[tokio::test]
async fn who_reads_too_slowly_keeps_no_place() {
    let site = Site::new().await;
    let large = state(1).replace("\"l\"", &format!("\"{}\"", "l".repeat(900_000)));
    assert_eq!(site.ask("POST", "/state/web", &large).await.0, 200);
    let mut held = Vec::new();
    for _ in 0..MAX_TRANSFERS {
        let get = Site::request("GET", "/state/web").body(Body::empty()).unwrap();
        held.push(site.router.clone().call(get).await.unwrap());
    }
    tokio::time::pause();
    let get = Site::request("GET", "/state/web").body(Body::empty()).unwrap();
    assert_eq!(site.send(get).await.0, StatusCode::SERVICE_UNAVAILABLE);
    tokio::time::advance(TRANSFER).await;
    tokio::time::resume();
    assert_eq!(site.ask("GET", "/state/web", "").await, (200, large));
    for cut in held {
        assert!(to_bytes(cut.into_body(), 4 << 20).await.is_err(), "what was cut looks whole");
    }
}

#[tokio::test]
async fn writers_at_once_under_one_lock_and_without_it_never_make_half_a_state() {
    let site = Site::new().await;
    site.ask("LOCK", "/state/web", LOCK).await;
    let mut sent = Vec::new();
    for serial in 1..=12 {
        // Every third holds the lock.
        let path = if serial % 3 == 0 { "/state/web?ID=a" } else { "/state/web" };
        let post = Site::request("POST", path).body(Body::from(state(serial))).unwrap();
        let mut router = site.router.clone();
        sent.push(tokio::spawn(async move {
            let status = router.call(post).await.unwrap().status().as_u16();
            (serial % 3 == 0, status)
        }));
    }
    for one in sent {
        let (holds, status) = one.await.unwrap();
        assert_eq!(status, if holds { 200 } else { 423 });
    }
    let view = site.place.states.view(&"web".parse().unwrap()).await.unwrap();
    assert_eq!(view.record.versions.len(), 4);
    let latest = view.record.latest().unwrap().facts.serial.unwrap();
    assert_eq!(site.ask("GET", "/state/web", "").await, (200, state(latest)));
    site.nothing_is_left();
}
