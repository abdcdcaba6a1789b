//! What is configured wrongly is told in one line that names it and says what to do: certificates, before the start and
//! after, and proxies.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use spanring::{
    Config, ConfigError, Diagnostic, DiagnosticSink, Engine, Export, Health, ProxyChoice, StartError, Topic,
};

/// What an engine has said.
#[derive(Clone, Default)]
struct Words(Arc<Mutex<Vec<Diagnostic>>>);

impl Words {
    fn sink(&self) -> Option<DiagnosticSink> {
        let words = Arc::clone(&self.0);
        Some(DiagnosticSink::new(move |diagnostic| words.lock().unwrap().push(diagnostic.clone())))
    }

    fn of(&self, topic: Topic) -> Vec<String> {
        let words = self.0.lock().unwrap();
        words.iter().filter(|word| word.topic == topic).map(|word| word.text.clone()).collect()
    }
}

/// The configuration that these variables ask for.
fn read(variables: &[(&str, &str)]) -> Config {
    Config::from_vars(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned()))
}

fn refusal(config: Config) -> ConfigError {
    match Engine::start(config).unwrap_err() {
        StartError::Config(error) => error,
        other => panic!("{other}"),
    }
}

const HTTP: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://192.0.2.1:4318");

/// A program that gives certificates does not expect its spans to go out in the clear.
#[test]
fn certificates_without_tls_are_an_error_of_the_program() {
    type Give = fn(&mut Export);
    let fields: [(Give, &str); 3] = [
        (|export| export.certificate = Some("/ca.pem".into()), "export.certificate"),
        (|export| export.client_certificate = Some("/client.pem".into()), "export.client_certificate"),
        (|export| export.client_key = Some("/hunter2".into()), "export.client_key"),
    ];
    for endpoint in ["http://localhost:4318/v1/traces", "unix:///run/otel.sock"] {
        for (give, field) in fields {
            let mut export = Export { endpoint: endpoint.into(), ..Export::default() };
            give(&mut export);
            let error = refusal(Config { export: Some(export), ..Config::default() });
            assert_eq!((error.field(), error.variable()), (field, None));
            let text = error.to_string();
            assert!(text.contains(endpoint) && text.contains("https://") && !text.contains("hunter2"), "{text}");
        }
    }
}

#[test]
fn certificates_without_tls_are_a_warning_of_the_environment() {
    let own = ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/no/such/ca.pem");
    let key = ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/no/such/key.pem");
    let words = Words::default();
    let mut config = read(&[HTTP, own, key]);
    config.export.as_mut().unwrap().diagnostics = words.sink();
    drop(Engine::start(config).unwrap());
    let said = words.of(Topic::Configuration).join("\n");
    for part in [own.0, key.0, "http://192.0.2.1:4318/v1/traces has no TLS", "begin the endpoint with https://"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // What the program puts in the place of the variable's is the program's.
    let mut config = read(&[HTTP, own]);
    config.export.as_mut().unwrap().certificate = Some("/another.pem".into());
    assert_eq!(refusal(config).field(), "export.certificate");
}

/// Whoever holds a lock around the start may rely on where the sink is called, and on when.
#[test]
fn warnings_at_start_are_told_on_the_thread_that_starts() {
    let told_by = Arc::new(Mutex::new(vec![]));
    let mut config = read(&[HTTP, ("OTEL_CONFIG_FILE", "/etc/otel.yaml")]);
    let threads = Arc::clone(&told_by);
    config.export.as_mut().unwrap().diagnostics = Some(DiagnosticSink::new(move |diagnostic| {
        if diagnostic.topic == Topic::Configuration {
            threads.lock().unwrap().push(thread::current().id());
        }
    }));
    let engine = Engine::start(config).unwrap();
    assert_eq!(*told_by.lock().unwrap(), [thread::current().id()]);
    drop(engine);
}

/// A proxy that wants credentials of everybody; its URL.
fn strict_proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let _ = head.take_while(|line| !line.is_empty()).count();
            let _ = stream.write_all(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    url
}

/// Flushes, which makes the export try again, until the health is as it should be.
fn until(engine: &Engine, is_it: impl Fn(Health) -> bool) {
    let found = (0..200).any(|_| {
        let _ = engine.flush(Duration::from_millis(100));
        is_it(engine.health())
    });
    assert!(found, "{:?}", engine.health());
}

const CREDENTIALS: &str = "user:password@";

#[test]
fn proxy_that_wants_credentials_is_told_with_where_to_put_them() {
    let words = Words::default();
    let proxy = ProxyChoice::Url(strict_proxy());
    let export = Export { proxy, diagnostics: words.sink(), ..Export::to("http://192.0.2.1:4318") };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    engine.tracer("test").span("work").start().end();
    until(&engine, |health| matches!(health, Health::Degraded(why) if why.contains(CREDENTIALS)));
    let said = words.of(Topic::Loss).join("\n");
    assert!(said.contains("status 407") && said.contains(CREDENTIALS), "{said}");
}

#[cfg(feature = "tls")]
mod tls {
    use std::{env, fs, path::PathBuf, process};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// Files of one test, removed after it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let place = env::temp_dir().join(format!("spanring-certificates-{}-{name}", process::id()));
            fs::create_dir_all(&place).unwrap();
            Self(place)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A certificate and its key, in PEM.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn bad_file_is_named_by_its_field_and_its_variable() {
        let folder = Folder::new("named");
        let ((chain, key), (_, other)) = (pair(), pair());
        let good =
            [folder.write("ca.pem", &chain), folder.write("client.pem", &chain), folder.write("client.key", &key)];
        let (empty, other) = (folder.write("empty.pem", "no PEM"), folder.write("other.key", &other));
        let names = ["certificate", "client_certificate", "client_key"];
        let variables = names.map(|name| format!("OTEL_EXPORTER_OTLP_{}", name.to_uppercase()));
        let cases = [
            (0, folder.0.join("absent.pem"), "cannot be read"),
            (0, folder.0.clone(), "cannot be read"),
            (0, empty.clone(), "holds no certificate"),
            (1, empty.clone(), "holds no certificate"),
            (2, empty, "holds no private key"),
            (2, other, "is not the key of"),
            (2, PathBuf::new(), "it comes without"),
        ];
        for (at, bad, what) in cases {
            let mut files = good.clone();
            files[at] = bad;
            let mut read = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "https://192.0.2.1:4318")];
            read.extend(variables.iter().map(String::as_str).zip(files.iter().map(|file| file.to_str().unwrap())));
            let error = refusal(super::read(&read));
            // Of a pair of which one is missing the other is named.
            let at = if what == "it comes without" { 1 } else { at };
            assert_eq!(error.field(), format!("export.{}", names[at]), "{error}");
            assert_eq!(error.variable(), Some(variables[at].as_str()), "{error}");
            let text = error.to_string();
            assert!(text.contains(what) && text.matches(&variables[at]).count() == 1, "{text}");
            let [certificate, client_certificate, client_key] =
                files.map(|file| Some(file).filter(|file| !file.as_os_str().is_empty()));
            let export = Export { certificate, client_certificate, client_key, ..Export::to("https://192.0.2.1:4318") };
            let by_code = refusal(Config { export: Some(export), ..Config::default() });
            assert_eq!((by_code.field(), by_code.variable()), (error.field(), None), "{by_code}");
        }
    }

    #[test]
    fn proxy_that_makes_no_tunnel_is_told_with_what_it_wants() {
        let folder = Folder::new("tunnel");
        let export = Export {
            certificate: Some(folder.write("ca.pem", &pair().0)),
            proxy: ProxyChoice::Url(strict_proxy()),
            diagnostics: Words::default().sink(),
            shutdown_timeout: Duration::ZERO,
            ..Export::to("https://192.0.2.1:4318")
        };
        let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
        engine.tracer("test").span("work").start().end();
        let parts = ["no tunnel", "status 407", CREDENTIALS];
        until(&engine, |health| matches!(health, Health::Down(why) if parts.iter().all(|part| why.contains(part))));
    }

    /// The peer hangs up each time: the files are looked at before a session begins, whatever becomes of it.
    #[test]
    fn failed_reload_is_told_once_and_shows_in_the_health() {
        let folder = Folder::new("reload");
        let (chain, key) = pair();
        let certificate = folder.write("ca.pem", &chain);
        let (client_certificate, client_key) = (folder.write("client.pem", &chain), folder.write("client.key", &key));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        thread::spawn(move || listener.incoming().for_each(drop));

        let words = Words::default();
        let export = Export {
            certificate: Some(certificate),
            client_certificate: Some(client_certificate.clone()),
            client_key: Some(client_key),
            proxy: ProxyChoice::Direct,
            diagnostics: words.sink(),
            shutdown_timeout: Duration::ZERO,
            ..Export::to(&url)
        };
        let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
        engine.tracer("test").span("work").start().end();
        let down = |is_it: &dyn Fn(&str) -> bool| {
            until(&engine, |health| matches!(health, Health::Down(why) if is_it(&why)));
        };
        down(&|_| true);
        assert_eq!(words.of(Topic::Certificates), Vec::<String>::new());

        fs::write(&client_certificate, "rubbish").unwrap();
        let file = client_certificate.to_str().unwrap();
        down(&|why| why.contains("new certificates cannot be used") && why.contains(file));
        for _ in 0..3 {
            let _ = engine.flush(Duration::from_millis(100));
        }
        let said = words.of(Topic::Certificates);
        assert_eq!(said.len(), 1, "{said:?}");
        for part in
            [file, "`client_certificate` (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE)", "holds no certificate in PEM"]
        {
            assert!(said[0].contains(part), "{part}: {said:?}");
        }

        fs::write(&client_certificate, &chain).unwrap();
        down(&|why| !why.contains("certificates"));
    }
}
