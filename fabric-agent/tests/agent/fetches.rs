//! Blobs that the agent fetches: what servers do, and what clients are told.

use sha2::Digest as _;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tonic::Status;
use weft_fetch::testing::{Page, Seen, Site};
use weft_model::{Problem, Reason};
use weft_proto::{problem_from_status, v1};

use crate::support::{Agent, Api, context, eventually, image_spec, ok, sha256_of};

const MIB: usize = 1 << 20;

/// Bytes that are no known file's.
fn disk(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

/// Every event until the end.
async fn fetch_as(
    api: &Api,
    url: &str,
    sha256: &str,
    role: &str,
) -> Result<v1::FetchEvent, Problem> {
    let request = v1::FetchRequest {
        url: url.to_owned(),
        sha256: sha256.to_owned(),
        role: role.to_owned(),
        sha512: String::new(),
    };
    fetch_it(api, request).await
}

async fn fetch_it(api: &Api, request: v1::FetchRequest) -> Result<v1::FetchEvent, Problem> {
    let problem = |status: Status| problem_from_status(&status);
    let mut events = api.images.clone().fetch(request).await.map_err(problem)?.into_inner();
    let mut last = v1::FetchEvent::default();
    while let Some(event) = events.message().await.map_err(problem)? {
        last = event;
    }
    Ok(last)
}

async fn fetch(api: &Api, url: &str, disk: &[u8]) -> Result<v1::FetchEvent, Problem> {
    fetch_as(api, url, &sha256_of(disk), "disk").await
}

async fn create(api: &Api, disk: &[u8]) -> v1::Image {
    let spec = image_spec("disk", disk);
    ok(api.images.clone().create(v1::CreateImageRequest { context: context(), spec }).await)
}

fn ranges(site: &Site) -> Vec<Option<String>> {
    site.seen().iter().map(|seen| seen.headers.get("range").cloned()).collect()
}

fn parts(agent: &Agent) -> usize {
    std::fs::read_dir(agent.state_dir().join("images/uploads")).unwrap().count()
}

/// Returns how much has come when it is so much at least.
async fn has_come(agent: &Agent, disk: &[u8], bytes: usize) -> u64 {
    let part = agent.state_dir().join("images/uploads").join(format!("{}.part", sha256_of(disk)));
    eventually("a part has come", async || {
        let len = std::fs::metadata(&part).ok()?.len();
        (len >= bytes as u64).then_some(len)
    })
    .await
}

#[tokio::test]
async fn a_fetched_blob_makes_an_image_and_is_not_fetched_twice() {
    let (agent, site, disk) = (Agent::start().await, Site::start().await.unwrap(), disk(3 * MIB));
    let (api, url) = (agent.api().await, site.put("/disk.raw", Page::new(disk.clone())));
    let last = fetch(&api, &url, &disk).await.unwrap();
    assert!(last.done, "{last:?}");
    assert_eq!(create(&api, &disk).await.virtual_size_bytes, disk.len() as u64);
    assert!(fetch(&api, "http://localhost:1/other.raw", &disk).await.unwrap().done);
    assert_eq!(site.seen().len(), 1);
}

/// Debian publishes no other digest.
#[tokio::test]
async fn a_file_that_is_known_by_its_sha512_is_told_by_its_sha256() {
    let (mut agent, site) = (Agent::start().await, Site::start().await.unwrap());
    let disk = disk(3 * MIB);
    let page = Page::new(disk.clone()).breaks_after([2 * MIB]);
    let (api, url) = (agent.api().await, site.put("/disk.raw", page));
    let sha512 = |bytes: &[u8]| hex::encode(sha2::Sha512::digest(bytes));
    let request = v1::FetchRequest {
        url: url.clone(),
        role: "disk".to_owned(),
        sha512: sha512(&disk),
        ..v1::FetchRequest::default()
    };
    let last = fetch_it(&api, request.clone()).await.unwrap();
    assert_eq!((last.done, last.sha256), (true, sha256_of(&disk)));
    let image = create(&api, &disk).await.metadata.unwrap().id;
    let again = v1::FetchRequest { url: "http://localhost:1/x".to_owned(), ..request.clone() };
    assert_eq!(fetch_it(&api, again.clone()).await.unwrap().sha256, sha256_of(&disk));
    agent.kill();
    agent.start_again().await;
    let api = agent.api().await;
    assert_eq!(fetch_it(&api, again.clone()).await.unwrap().sha256, sha256_of(&disk));
    assert_eq!(site.seen().len(), 2, "the rest of it, and nothing of what is there");

    let other = v1::FetchRequest { sha512: sha512(b"other"), ..request.clone() };
    let problem = fetch_it(&api, other).await.unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("sha512"), "{problem}");
    assert!(problem.message.contains(&sha512(&disk)), "{problem}");
    assert_eq!(parts(&agent), 0);
    let two = v1::FetchRequest { sha256: sha256_of(&disk), ..request };
    assert!(fetch_it(&api, two).await.unwrap_err().message.contains("keep one"));

    let list = format!("{}  disk.raw\n", sha512(&disk));
    let url = site.put("/SHA512SUMS", Page::new(list.into_bytes()));
    let request = v1::FindChecksumRequest { url, file_name: "disk.raw".to_owned() };
    let found = ok(api.images.clone().find_checksum(request).await);
    assert_eq!((found.sha256.as_str(), found.sha512), ("", sha512(&disk)));

    // It is known for as long as there is the blob. Who was told of it last has some time to use it;
    // an agent that is started anew remembers nobody.
    agent.kill();
    agent.start_again().await;
    assert_eq!(known_by_sha512(&agent), 1);
    let api = agent.api().await;
    ok(api.images.clone().delete(v1::DeleteRequest { id: image }).await);
    eventually("it is forgotten", async || (known_by_sha512(&agent) == 0).then_some(())).await;
    assert!(fetch_it(&api, again).await.is_err());
}

fn known_by_sha512(agent: &Agent) -> i64 {
    let file = rusqlite::Connection::open(agent.state_dir().join("weft.db")).unwrap();
    let sql = "SELECT count(*) FROM item WHERE key LIKE 'sha512/%'";
    file.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_broken_download_goes_on_with_the_rest_only() {
    let (agent, site, disk) = (Agent::start().await, Site::start().await.unwrap(), disk(5 * MIB));
    let page = Page::new(disk.clone()).etag("one").breaks_after([2 * MIB, MIB]);
    let (api, url) = (agent.api().await, site.put("/disk.raw", page));
    fetch(&api, &url, &disk).await.unwrap();
    create(&api, &disk).await;
    let want = [None, Some("bytes=2097152-".to_owned()), Some("bytes=3145728-".to_owned())];
    assert_eq!(ranges(&site), want);
    assert_eq!(site.seen()[1].headers["if-range"], "\"one\"");
    assert_eq!(site.seen().iter().map(|seen| seen.sent).sum::<usize>(), disk.len());
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_is_asked_for_everything_again() {
    let (agent, site, disk) = (Agent::start().await, Site::start().await.unwrap(), disk(3 * MIB));
    let page = Page::new(disk.clone()).no_ranges().breaks_after([2 * MIB]);
    let (api, url) = (agent.api().await, site.put("/disk.raw", page));
    fetch(&api, &url, &disk).await.unwrap();
    create(&api, &disk).await;
    assert_eq!(site.seen().len(), 2);
}

#[tokio::test]
async fn a_file_of_unknown_length_is_fetched_to_its_end() {
    let (agent, site, disk) = (Agent::start().await, Site::start().await.unwrap(), disk(3 * MIB));
    let url = site.put("/disk.raw", Page::new(disk.clone()).no_length());
    let api = agent.api().await;
    fetch(&api, &url, &disk).await.unwrap();
    create(&api, &disk).await;
}

#[tokio::test]
async fn a_file_that_changed_between_two_parts_is_fetched_once_more_as_a_whole() {
    let (agent, site) = (Agent::start().await, Site::start().await.unwrap());
    let (old, new) = (vec![1; 4 * MIB], vec![2; 4 * MIB]);
    // Without a name for its state: nothing tells that it is another one.
    let url = site.put("/disk.raw", Page::new(old).hangs_after(2 * MIB));
    let api = agent.api().await;
    let (client, asked, sha256) = (api.clone(), url.clone(), sha256_of(&new));
    let first = tokio::spawn(async move { fetch_as(&client, &asked, &sha256, "disk").await });
    has_come(&agent, &new, MIB).await;
    site.put("/disk.raw", Page::new(new.clone()));
    let mut agent = agent;
    agent.kill();
    assert!(first.await.unwrap().is_err());
    agent.start_again().await;
    fetch(&agent.api().await, &url, &new).await.unwrap();
    create(&agent.api().await, &new).await;
    let ranges = ranges(&site);
    assert!(ranges[1].is_some() && ranges[2].is_none(), "{ranges:?}");
}

#[tokio::test]
async fn a_killed_agent_fetches_the_rest_only() {
    let (mut agent, site, disk) =
        (Agent::start().await, Site::start().await.unwrap(), disk(8 * MIB));
    let url = site.put("/disk.raw", Page::new(disk.clone()).etag("one").hangs_after(5 * MIB));
    let api = agent.api().await;
    let (client, asked, sha256) = (api.clone(), url.clone(), sha256_of(&disk));
    let first = tokio::spawn(async move { fetch_as(&client, &asked, &sha256, "disk").await });
    let part = agent.state_dir().join("images/uploads").join(format!("{}.part", sha256_of(&disk)));
    let have = has_come(&agent, &disk, 4 * MIB).await;
    agent.kill();
    assert!(first.await.unwrap().is_err());
    let have = std::fs::metadata(&part).unwrap().len().max(have);
    site.put("/disk.raw", Page::new(disk.clone()).etag("one"));
    agent.start_again().await;
    let api = agent.api().await;
    fetch(&api, &url, &disk).await.unwrap();
    create(&api, &disk).await;
    let seen: Vec<Seen> = site.seen();
    assert_eq!(seen[1].headers["range"], format!("bytes={have}-"));
    assert_eq!(seen[1].sent as u64, disk.len() as u64 - have);
}

#[tokio::test]
async fn all_who_ask_for_one_digest_follow_one_download() {
    let (agent, site, disk) = (Agent::start().await, Site::start().await.unwrap(), disk(6 * MIB));
    let url = site.put("/disk.raw", Page::new(disk.clone()));
    let api = agent.api().await;
    let all = (0..8).map(|_| fetch(&api, &url, &disk));
    for one in futures::future::join_all(all).await {
        assert!(one.unwrap().done);
    }
    assert_eq!(site.seen().len(), 1);
}

#[tokio::test]
async fn who_has_another_url_is_not_harmed_by_the_first_ones() {
    let (agent, site, disk) = (Agent::start().await, Site::start().await.unwrap(), disk(MIB));
    let bad = site.put("/bad.raw", Page::new(disk.clone()).status(503, 2).breaks_after([0; 9]));
    let good = site.put("/good.raw", Page::new(disk.clone()));
    let api = agent.api().await;
    let first = tokio::spawn({
        let (api, disk) = (api.clone(), disk.clone());
        async move { fetch(&api, &bad, &disk).await }
    });
    eventually("the first has asked", async || (!site.seen().is_empty()).then_some(())).await;
    assert!(fetch(&api, &good, &disk).await.unwrap().done);
    // The first one fails by its URL, or finds what the second brought.
    let _ = first.await.unwrap();
}

#[tokio::test]
async fn redirections_are_followed_and_a_server_that_is_busy_is_asked_again() {
    let (agent, site, disk) = (Agent::start().await, Site::start().await.unwrap(), disk(MIB));
    site.put("/disk.raw", Page::new(disk.clone()).status(503, 2));
    let url = site.put("/latest", Page::redirect("/disk.raw"));
    let api = agent.api().await;
    fetch(&api, &url, &disk).await.unwrap();
    assert_eq!(site.seen().len(), 6);
}

#[tokio::test]
async fn what_is_wrong_with_a_url_is_said_and_nothing_is_left() {
    let (agent, site) =
        (Agent::with(&["--max-image-gib", "1"]).await, Site::start().await.unwrap());
    let good = disk(MIB);
    let page = |text: &str| Page::new(text.as_bytes()).content_type("text/html");
    site.put("/page", page("\n <!DOCTYPE html>\n<title>Sign in</title>"));
    site.put("/gz", Page::new(b"\x1f\x8b\x08 and so on".as_slice()));
    site.put("/empty", Page::new(b"".as_slice()));
    site.put("/broken.qcow2", Page::new(b"QFI\xfb\0\0\0\x03 and no more".as_slice()));
    site.put("/other.raw", Page::new(disk(MIB + 1)));
    site.put("/secret", Page::new(disk(1)).status(403, 9));
    site.put("/busy", Page::new(disk(1)).status(503, 99));
    site.put("/loop", Page::redirect("/loop"));
    site.put("/breaks", Page::new(disk(4096)).breaks_after([10; 99]));
    let api = agent.api().await;
    #[rustfmt::skip]
    let cases = [
        ("/page",         "disk",   "url",    "web page",             "Sign in"),
        ("/page",         "initrd", "url",    "web page",             "Sign in"),
        ("/gz",           "disk",   "url",    "gzip file is damaged", "gzip -t"),
        ("/gz",           "kernel", "url",    "compressed with gzip", "of a disk alone"),
        ("/other.raw",    "kernel", "url",    "no x86 Linux kernel",  "kernel"),
        ("/empty",        "disk",   "url",    "is empty",             "completely"),
        ("/broken.qcow2", "disk",   "url",    "truncated",            "again"),
        ("/none",         "disk",   "url",    "404",                  "no such file"),
        ("/secret",       "disk",   "url",    "403",                  "password"),
        ("/busy",         "disk",   "url",    "503",                  "tried 6 times"),
        ("/loop",         "disk",   "url",    "more than 10 times",   "in the end"),
        ("/breaks",       "disk",   "url",    "after 0 of 4096 bytes", "tried 6 times"),
        ("/other.raw",    "disk",   "sha256", "was given",            "thrown away"),
    ];
    for (path, role, field, word, other) in cases {
        let sha256 = sha256_of(&good);
        let problem = fetch_as(&api, &site.url(path), &sha256, role).await.unwrap_err();
        let all = format!("{problem:?}");
        assert_eq!(problem.field.as_deref(), Some(field), "{path}: {all}");
        assert!(all.contains(word) && all.contains(other), "{path}: {all}");
        assert_eq!(parts(&agent), 0, "{path}");
    }
    for (url, word) in [
        ("file:///disk.raw", "source_path"),
        ("ftp://localhost/disk.raw", "http or https"),
        ("localhost/disk.raw", "no https:// in front"),
    ] {
        let problem = fetch(&api, url, &good).await.unwrap_err();
        assert_eq!(
            (problem.reason, problem.field.as_deref()),
            (Reason::InvalidArgument, Some("url"))
        );
        assert!(problem.message.contains(word), "{problem:?}");
    }
}

#[tokio::test]
async fn a_password_in_a_url_is_used_and_never_shown() {
    let (agent, site, disk) = (Agent::start().await, Site::start().await.unwrap(), disk(MIB));
    site.put("/disk.raw", Page::new(disk.clone()));
    let api = agent.api().await;
    let with = |path: &str| site.url(path).replace("://", "://me:s3cret@") + "?sig=s3cret";
    let problem = fetch(&api, &with("/none"), &disk).await.unwrap_err();
    assert!(!format!("{problem:?}").contains("s3cret"), "{problem:?}");
    let away = "http://me:s3cret@localhost:1/disk.raw";
    let problem = fetch(&api, away, &disk).await.unwrap_err();
    assert!(problem.message.contains("cannot connect"), "{problem:?}");
    assert!(!format!("{problem:?}").contains("s3cret"), "{problem:?}");
    fetch(&api, &with("/disk.raw"), &disk).await.unwrap();
    let seen = site.seen();
    assert!(seen.last().unwrap().headers["authorization"].starts_with("Basic "));
    assert!(!agent.log().contains("s3cret"), "{}", agent.log());
}

/// A CA's certificate, and a server for `localhost` that it vouches for.
fn private_ca() -> (String, TlsAcceptor) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (ca.pem(), TlsAcceptor::from(std::sync::Arc::new(config)))
}

#[tokio::test]
async fn a_private_mirror_is_trusted_with_its_ca_only() {
    let (pem, tls) = private_ca();
    let site = Site::with(Some(tls)).await.unwrap();
    let plain = Site::start().await.unwrap();
    let disk = disk(MIB);
    let url = site.put("/disk.raw", Page::new(disk.clone()));
    let downgrade =
        site.put("/down", Page::redirect(plain.put("/disk.raw", Page::new(disk.clone()))));

    let stranger = Agent::start().await;
    let problem = fetch(&stranger.api().await, &url, &disk).await.unwrap_err();
    assert!(problem.remedy.unwrap().contains("--fetch-ca"), "{}", problem.message);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    let agent = Agent::with(&["--fetch-ca", file.to_str().unwrap()]).await;
    let api = agent.api().await;
    let problem = fetch(&api, &downgrade, &disk).await.unwrap_err();
    assert!(problem.message.contains("from https to http"), "{problem:?}");
    fetch(&api, &url, &disk).await.unwrap();
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn an_agent_with_unusable_ca_certificates_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let agent = Agent::not_started(&["--fetch-ca", file.to_str().unwrap()]);
    let output = agent.serve_command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("ca.pem"), "{said}");
}

async fn find_checksum(api: &Api, url: &str, name: &str) -> Result<String, Problem> {
    let request = v1::FindChecksumRequest { url: url.to_owned(), file_name: name.to_owned() };
    let answer = api.images.clone().find_checksum(request).await;
    answer.map(|answer| answer.into_inner().sha256).map_err(|status| problem_from_status(&status))
}

#[tokio::test]
async fn a_publishers_list_of_digests_is_read_and_one_that_says_nothing_is_refused() {
    let (agent, site, disk) = (Agent::start().await, Site::start().await.unwrap(), disk(MIB));
    let api = agent.api().await;
    let text = format!("{}  other.raw\n{} *disk.raw\n", "0".repeat(64), sha256_of(&disk));
    // It comes with the third try.
    let list = site.put("/SHA256SUMS", Page::new(text).status(503, 2));
    assert_eq!(find_checksum(&api, &list, "disk.raw").await, Ok(sha256_of(&disk)));
    let large = site.put("/large", Page::new(vec![b'a'; 64 << 10]).endless());
    let page = site.put("/page", Page::new("<html>Sign in</html>"));
    #[rustfmt::skip]
    let cases = [
        (list.as_str(),                "third.raw", "does not list \"third.raw\", but other.raw, disk.raw"),
        (large.as_str(),               "disk.raw",  "larger than a list"),
        (page.as_str(),                "disk.raw",  "no list of SHA-256"),
        ("file:///etc/passwd",         "disk.raw",  "file:// URLs"),
    ];
    for (url, name, word) in cases {
        let problem = find_checksum(&api, url, name).await.unwrap_err();
        assert!(problem.message.contains(word), "{problem:?}");
        assert_eq!(problem.field.as_deref(), Some("url"));
    }
    let gone = find_checksum(&api, &site.url("/gone"), "disk.raw").await.unwrap_err();
    assert!(gone.message.contains("404"), "{gone:?}");
}

#[tokio::test]
async fn a_compressed_disk_is_judged_by_what_comes_out_of_its_first_bytes() {
    use std::io::Write as _;
    let (agent, site) = (Agent::start().await, Site::start().await.unwrap());
    let api = agent.api().await;
    let gzip = |content: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    let good = gzip(&disk(MIB));
    let url = site.put("/disk.raw.gz", Page::new(good.clone()));
    assert!(fetch(&api, &url, &good).await.unwrap().done);
    assert_eq!(create(&api, &good).await.virtual_size_bytes, MIB as u64);
    let mut tar = disk(MIB);
    tar[257..262].copy_from_slice(b"ustar");
    let tar = gzip(&tar);
    let url = site.put("/disk.tar.gz", Page::new(tar.clone()));
    let problem = fetch(&api, &url, &tar).await.unwrap_err();
    assert!(problem.message.contains("tar archive"), "{problem:?}");
    assert_eq!(parts(&agent), 0);
}
