use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn keys(byte: u8) -> VolumeKeys {
    VolumeKeys { root: Some(RootKey::new(&[byte; KEY_BYTES], Path::new("/root.key")).unwrap()) }
}

#[test]
fn a_secret_is_opened_by_the_key_that_wrapped_it_and_by_no_other() {
    let (a, b, none) = (keys(1), keys(2), VolumeKeys::default());
    let wrapped = a.new_secret().unwrap();
    let secret = a.unwrap(&wrapped).unwrap();
    assert_eq!(secret.reveal().len(), 64);
    let json = serde_json::to_string(&wrapped).unwrap();
    assert!(!json.contains(secret.reveal()), "{json}");
    assert!(!format!("{wrapped:?} {a:?}").contains(secret.reveal()));
    assert_ne!(a.unwrap(&a.new_secret().unwrap()).unwrap().reveal(), secret.reveal());

    let problem = Problem::from(b.unwrap(&wrapped).unwrap_err());
    let (needed, has) = (a.id().unwrap(), b.id().unwrap());
    assert_eq!(
        problem.message,
        format!(
            "the volume is encrypted with the root key {needed}, and /root.key has the key {has}"
        )
    );
    let problem = Problem::from(none.unwrap(&wrapped).unwrap_err());
    assert!(problem.message.contains("agent has none"), "{problem}");
    assert!(problem.remedy.unwrap().contains("--volume-key-file"));
    // A disk's step says the same, and is tried again.
    let error = none.of_disk("the volume vol-1", Some(&wrapped)).unwrap_err();
    let told = error.problem();
    assert!(error.is_retryable() && told.reason == Reason::FailedPrecondition, "{told}");
    assert!(told.message.starts_with("open the volume vol-1: the volume is encrypted"), "{told}");
    assert!(
        told.message.contains("agent has none; start the agent with --volume-key-file"),
        "{told}"
    );
    let problem = none.new_secret().unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("encrypted"));
    assert!(problem.remedy.unwrap().contains("--volume-key-file"));
}

#[test]
fn whatever_was_changed_of_a_wrapped_secret_is_told() {
    let keys = keys(1);
    let wrapped = keys.new_secret().unwrap();
    let changed: [fn(&mut WrappedSecret); 4] = [
        |it| it.id.0[15] ^= 1,
        |it| it.nonce.0[0] ^= 1,
        |it| it.sealed.0[0] ^= 1,
        |it| it.sealed.0[79] ^= 1,
    ];
    for change in changed {
        let mut wrapped = wrapped.clone();
        change(&mut wrapped);
        let error = keys.unwrap(&wrapped).unwrap_err();
        assert!(matches!(error, KeyError::Tampered { secret } if secret == wrapped.id), "{error}");
        assert!(error.told().contains("it was changed; put the store back"), "{}", error.told());
    }
    // Nor is one secret another's.
    let other = keys.new_secret().unwrap();
    let mixed = WrappedSecret { sealed: other.sealed, nonce: other.nonce, ..wrapped };
    assert!(keys.unwrap(&mixed).is_err());
}

#[test]
fn a_key_is_read_from_a_file_that_nobody_else_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume.key");
    let open = || VolumeKeys::open(Some(&path));
    let says = |want: &str| {
        let error = format!("{:#}", open().unwrap_err());
        assert!(error.contains(want), "{error}");
        assert!(error.contains("--volume-key-file") && error.contains("volume.key"), "{error}");
        assert!(!error.contains("5a5a5a"), "{error}");
    };
    says("No such file");
    let report = make_file(&path).unwrap();
    assert!(report.contains(&open().unwrap().id().unwrap().to_string()), "{report}");
    let error = format!("{:#}", make_file(&path).unwrap_err());
    assert!(error.contains("never overwritten"), "{error}");

    let good = "5a".repeat(32);
    let put = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    put(&good, 0o400);
    let id = open().unwrap().id();
    put(&format!("  {}\n\n", good.to_uppercase()), 0o600);
    assert_eq!(open().unwrap().id(), id);
    for mode in [0o640, 0o604, 0o660] {
        put(&good, mode);
        says("chmod 0600");
    }
    for bad in
        [&good[2..], &good[1..], "", &format!("{good}5a"), &"z".repeat(64), &"5a".repeat(600)]
    {
        put(bad, 0o600);
        says("64 hexadecimal digits");
    }
    let error = format!("{:#}", VolumeKeys::open(Some(dir.path())).unwrap_err());
    assert!(error.contains("it is no file"), "{error}");
}
