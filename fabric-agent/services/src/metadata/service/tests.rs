use axum::http::Request as HttpRequest;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;
use weft_model::{HttpEndpoint, HttpTokens, MetadataOptions};

use super::*;
use crate::testing::{Known, guest, other_guest};

const LIST: &str = "/latest/meta-data/local-ipv4";
const SIGNAL: &str = "/weft/v1/signal";

/// The service of one guest with these options, and of another one with the defaults.
struct Bench {
    metadata: Arc<Metadata>,
    directory: Arc<Known>,
    source: Ipv4Addr,
    reach: Reach,
    _connection: TcpStream,
}

impl Bench {
    async fn new(options: MetadataOptions) -> Self {
        let it = Guest { metadata_options: options, ..guest() };
        let (vpc, source) = (it.vpc_id.clone(), it.address);
        let directory = Arc::new(Known::new([it, other_guest()]));
        let key = TokenKey::new([7; 32]);
        let metadata = Metadata::new(vpc, directory.clone(), key, Arc::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let reach = Reach::of(&stream).unwrap();
        Self { metadata: Arc::new(metadata), directory, source, reach, _connection: stream }
    }

    /// Status and body of the answer to `source`.
    async fn ask_as(
        &self,
        source: Ipv4Addr,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, String) {
        let mut request = HttpRequest::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = r#"{"status":"success"}"#;
        let request = request.body(Body::from(body)).unwrap();
        let router = router(Arc::clone(&self.metadata), source, self.reach.clone());
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        self.ask_as(self.source, method, path, headers).await
    }

    /// The entity tag of the answer.
    async fn tag(&self, path: &str, headers: &[(&str, &str)]) -> String {
        let mut request = HttpRequest::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let router = router(Arc::clone(&self.metadata), self.source, self.reach.clone());
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        response.headers()["etag"].to_str().unwrap().trim_matches('"').to_owned()
    }

    async fn token(&self) -> (u16, String) {
        self.ask(Method::PUT, TOKEN_PATH, &[(TOKEN_SECONDS, "60")]).await
    }

    fn counted(&self, why: Refused) -> u64 {
        let counted = self.metadata.refusals.counted();
        counted.into_iter().find(|(known, _)| *known == why).map_or(0, |(_, count)| count)
    }
}

#[tokio::test]
async fn a_token_is_needed_unless_the_instance_says_otherwise() {
    for (http_tokens, without) in
        [(None, 401), (Some(HttpTokens::Required), 401), (Some(HttpTokens::Optional), 200)]
    {
        let options = MetadataOptions { http_tokens, ..MetadataOptions::default() };
        let bench = Bench::new(options).await;
        let (status, token) = bench.token().await;
        assert_eq!(status, 200);
        let own = guest().address.to_string();
        assert_eq!(bench.ask(Method::GET, LIST, &[(TOKEN, &token)]).await, (200, own));
        assert_eq!(bench.ask(Method::GET, LIST, &[]).await.0, without, "{http_tokens:?}");
        // A wrong token is wrong in any case, and so is another guest's.
        assert_eq!(bench.ask(Method::GET, LIST, &[(TOKEN, "x")]).await.0, 401, "{http_tokens:?}");
        let other = other_guest().address;
        let stolen = bench.ask_as(other, Method::GET, LIST, &[(TOKEN, &token)]).await;
        assert_eq!(stolen.0, 401, "{http_tokens:?}");
        // What can be reported is not for whoever makes the guest send something.
        assert_eq!(bench.ask(Method::PUT, SIGNAL, &[]).await.0, 401, "{http_tokens:?}");
        assert_eq!(bench.ask(Method::PUT, SIGNAL, &[(TOKEN, &token)]).await.0, 200);
        assert_eq!(bench.directory.reports.lock().unwrap().len(), 1);
        let refused = if without == 401 { 4 } else { 3 };
        assert_eq!(bench.counted(Refused::MetadataNoToken), refused, "{http_tokens:?}");
    }
}

#[tokio::test]
async fn a_disabled_endpoint_gives_nothing_and_takes_nothing() {
    let options = MetadataOptions {
        http_endpoint: Some(HttpEndpoint::Disabled),
        http_tokens: Some(HttpTokens::Optional),
        ..MetadataOptions::default()
    };
    let bench = Bench::new(options).await;
    let (status, text) = bench.token().await;
    assert_eq!((status, text.contains("metadata_options")), (403, true), "{text}");
    for (method, path) in
        [(Method::GET, LIST), (Method::GET, "/"), (Method::GET, "/weft"), (Method::PUT, SIGNAL)]
    {
        assert_eq!(bench.ask(method, path, &[]).await.0, 403, "{path}");
    }
    assert_eq!(bench.counted(Refused::MetadataDisabled), 5);
    let headers = [(TOKEN_SECONDS, "60")];
    let other = other_guest().address;
    let answer = bench.ask_as(other, Method::PUT, TOKEN_PATH, &headers).await;
    assert_eq!(answer.0, 200, "the other guest's are enabled");
}

#[tokio::test]
async fn what_was_forwarded_is_refused_also_where_no_token_is_needed() {
    let http_tokens = Some(HttpTokens::Optional);
    let bench = Bench::new(MetadataOptions { http_tokens, ..MetadataOptions::default() }).await;
    let (_, token) = bench.token().await;
    for (method, path) in [(Method::PUT, TOKEN_PATH), (Method::GET, LIST), (Method::PUT, SIGNAL)] {
        let headers =
            [("X-Forwarded-For", "192.0.2.1"), (TOKEN_SECONDS, "60"), (TOKEN, token.as_str())];
        let (status, text) = bench.ask(method, path, &headers).await;
        assert_eq!(status, 403, "{path}: {text}");
    }
    assert_eq!(bench.counted(Refused::MetadataForwarded), 3);
}

#[tokio::test]
async fn an_answer_with_a_token_goes_as_far_as_the_instance_says_and_nothing_after_it_farther() {
    for (asked, want) in [(None, 1), (Some(1), 1), (Some(3), 3)] {
        let options =
            MetadataOptions { http_put_response_hop_limit: asked, ..MetadataOptions::default() };
        let bench = Bench::new(options).await;
        let before = bench.reach.hops();
        bench.ask(Method::GET, LIST, &[]).await;
        assert_eq!(bench.reach.hops(), before, "no token was given yet");
        bench.token().await;
        assert_eq!(bench.reach.hops(), want, "{asked:?}");
        bench.ask(Method::GET, LIST, &[]).await;
        bench.reach.limit(64).unwrap();
        assert_eq!(bench.reach.hops(), want, "it never rises");
    }
}

#[tokio::test]
async fn who_is_no_guest_is_told_nothing() {
    let bench = Bench::new(MetadataOptions::default()).await;
    let stranger = Ipv4Addr::new(172, 31, 0, 99);
    let headers = [(TOKEN_SECONDS, "60")];
    let answer = bench.ask_as(stranger, Method::PUT, TOKEN_PATH, &headers).await;
    assert_eq!(answer.0, 403);
    assert_eq!(bench.counted(Refused::MetadataStranger), 1);
}

const KEYS: &str = "/weft/v1/authorized-keys";

#[tokio::test]
async fn who_may_log_in_is_told_to_guests_with_a_token_alone() {
    let bench = Bench::new(MetadataOptions::default()).await;
    assert_eq!(bench.ask(Method::GET, KEYS, &[]).await.0, 401);
    assert!(bench.directory.seen.lock().unwrap().is_empty(), "a refused request is no sign");
    let token = bench.token().await.1;
    let show = [(TOKEN, token.as_str())];
    let want = "ssh-ed25519 AAAA alice\nssh-ed25519 BBBB bob\n".to_owned();
    assert_eq!(bench.ask(Method::GET, KEYS, &show).await, (200, want));
    assert!(bench.directory.seen.lock().unwrap().contains(&Seen::Keys));
    assert_eq!(bench.ask(Method::PUT, KEYS, &show).await.0, 405);
    assert!(bench.ask(Method::GET, "/weft/v1", &show).await.1.starts_with("authorized-keys\n"));
}

#[tokio::test]
async fn a_request_that_waits_is_answered_as_soon_as_the_keys_are_others() {
    let bench = Bench::new(MetadataOptions::default()).await;
    let token = bench.token().await.1;
    let show = [(TOKEN, token.as_str())];
    let tag = bench.tag(KEYS, &show).await;
    let known = format!("{KEYS}?wait_for_change=true&last_etag={tag}&timeout_sec=50");
    // The time is up: the same as before. Other keys than those known are told at once.
    let short = known.replace("=50", "=0");
    assert!(bench.ask(Method::GET, &short, &show).await.1.contains("alice"));
    let other = known.replace(&tag, "00");
    assert!(bench.ask(Method::GET, &other, &show).await.1.contains("alice"));

    let revoke = async {
        // What changes of another guest, and of this one's name, ends no wait.
        tokio::task::yield_now().await;
        bench.directory.change(|guests| {
            guests[0].hostname = "other".to_owned();
            guests[1].keys.clear();
        });
        tokio::task::yield_now().await;
        bench.directory.change(|guests| drop(guests[0].keys.remove(0)));
    };
    let ((status, body), ()) = tokio::join!(bench.ask(Method::GET, &known, &show), revoke);
    assert_eq!((status, body.as_str()), (200, "ssh-ed25519 BBBB bob\n"));

    // Another guest that comes to the same address is none of its keys' business.
    let tag = bench.tag(KEYS, &show).await;
    let known = format!("{KEYS}?wait_for_change=true&last_etag={tag}");
    let replace = async {
        tokio::task::yield_now().await;
        bench.directory.change(|guests| guests[0].instance_id = other_guest().instance_id);
    };
    let ((status, _), ()) = tokio::join!(bench.ask(Method::GET, &known, &show), replace);
    assert_eq!(status, 401);
}

#[tokio::test]
async fn so_many_wait_and_one_more_is_answered_at_once() {
    let bench = Bench::new(MetadataOptions::default()).await;
    let token = bench.token().await.1;
    let show = [(TOKEN, token.as_str())];
    let tag = bench.tag(KEYS, &show).await;
    let known = format!("{KEYS}?wait_for_change=true&last_etag={tag}");
    let places = u32::try_from(keys::MAX_WAITING).unwrap();
    let _all = bench.metadata.waiting.try_acquire_many(places).unwrap();
    assert_eq!(bench.ask(Method::GET, &known, &show).await.0, 200);
}
