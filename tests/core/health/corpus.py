"""Secrets in the clothes in which they turn up in logs, events, messages, environments and commands. All are made up.

The tests grep for the secret itself, so each is a text of its own. Tokens are put together at run time: scanners of repositories would
take them for real ones.
"""

from dataclasses import dataclass

RANDOM = "q7Zp2Xc9Vb4Nm8Kj3Hg6Fd1Sa5Lw0TyRe"  # 34 characters
HEX = "9f86d081884c7d659a2feaa0c55ad015"
BASE64 = "uQ3f/8Zk+1xVb7Lw2Rt9Yp4Mn6Jc0Hs5Gd8Ea1Ti"
PEM_BODY = "MIIEowIBAAKCAQEAvL8pZ3x9QmWc2TnR5bYk7JdH1sGf4uVoXeA6iPzKqNhMtCrS"


@dataclass(frozen=True, slots=True)
class Case:
    """A text and the secrets in it, none of which may be seen; ``kept`` must be."""

    id: str
    text: str
    secrets: tuple[str, ...]
    kept: tuple[str, ...] = ()


def case(name: str, text: str, *secrets: str, kept: tuple[str, ...] = ()) -> Case:
    """A case; every secret stands in its text."""
    assert all(secret in text for secret in secrets), name
    return Case(name, text, secrets, kept)


def _jwt() -> str:
    return ".".join(["ey" + "JhbGciOiJIUzI1NiJ9", "ey" + "JzdWIiOiIxMjM0NTY3ODkwIn0", "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"])


JWT = _jwt()
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{PEM_BODY}\n{PEM_BODY[::-1]}\nAb3d=\n-----END RSA PRIVATE KEY-----"
AWS_ID = "AKIA" + "IOSFODNN7Q2WERTY"
AWS_KEY = "wJa1rXUtnF3MI/K7MD8NG/bPxRf1CY9zQ2tLpA4v"

CORPUS: tuple[Case, ...] = (
    case("pem", f"loading key\n{PEM}\ndone", PEM_BODY, PEM_BODY[::-1], "Ab3d=", kept=("loading key", "done")),
    case("pem-on-one-line", "key: " + PEM.replace("\n", "\\n"), PEM_BODY, "Ab3d="),
    case("pem-in-json", '{"private_key": "' + PEM.replace("\n", "\\n") + '", "id": 7}', PEM_BODY, "Ab3d=", kept=('"id": 7',)),
    case("pem-without-its-end", f"-----BEGIN EC PRIVATE KEY-----\n{PEM_BODY}\nAb3d", PEM_BODY, "Ab3d"),
    case("pem-without-its-beginning", f"{PEM_BODY}\nAb3d=\n-----END RSA PRIVATE KEY-----\nstarting", PEM_BODY, "Ab3d=", kept=("starting",)),
    case("pem-encrypted", f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,{HEX}\n\n{PEM_BODY}", PEM_BODY, HEX),
    case("pem-openssh", f"-----BEGIN OPENSSH PRIVATE KEY-----\n{PEM_BODY}\n-----END OPENSSH PRIVATE KEY-----", PEM_BODY),
    case("pem-pgp", f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n{PEM_BODY}\n-----END PGP PRIVATE KEY BLOCK-----", PEM_BODY),
    case("jwt", f"token is {JWT} and more", JWT, JWT.split(".")[2], kept=("and more",)),
    case("jwt-cut", f"got {JWT[:60]}", JWT[:60]),
    case("base64-of-json", "ey" + "JhdXRocyI6eyJyZWdpc3RyeSI6e30sIng", "JhdXRocyI6eyJyZWdpc3RyeSI6e30sIng"),
    case("bearer", "sending Authorization: Bearer abc.def.ghi", "abc.def.ghi"),
    case("bearer-alone", f"Bearer {RANDOM} was refused", RANDOM, kept=("was refused",)),
    case("bearer-in-go-map", "headers map[Accept:[*/*] Authorization:[Bearer opensesame]]", "opensesame"),
    case("bearer-in-json", '{"Authorization":["Bearer opensesame"],"Accept":["*/*"]}', "opensesame"),
    case("basic", "Authorization: Basic dXNlcjpodW50ZXIy", "dXNlcjpodW50ZXIy"),
    case("basic-alone", "> Basic dXNlcjpodW50ZXIy", "dXNlcjpodW50ZXIy"),
    case("digest", 'Authorization: Digest username="bob", response="6629fae49393a05397450978507c4ef1"', "6629fae49393a05397450978507c4ef1"),
    case("cookie", "Cookie: sid=31d4d96e407aad42; theme=dark", "31d4d96e407aad42"),
    case("set-cookie", "< Set-Cookie: id=a3fWa; Secure", "a3fWa"),
    case("curl-header", 'curl -H "X-Api-Key: hunter2hunter" https://api', "hunter2hunter"),
    case("curl-user", "curl -u bob:hunter2 https://api", "hunter2"),
    case("url", "dial postgres://app:hunter2@db:5432/shop?sslmode=disable", "hunter2", kept=("@db:5432/shop?sslmode=disable",)),
    case("url-odd-password", "redis://:p@ss/w0rd:x@cache:6379/0", "p@ss", "w0rd", kept=("@cache:6379",)),
    case("url-mongodb", "mongodb+srv://root:s3cr3t%21@cluster0.mongodb.net/admin", "s3cr3t"),
    case("url-token-as-user", f"fetching https://{RANDOM}@git.example/repo", RANDOM, kept=("@git.example/repo",)),
    case("url-query", "GET /login?user=bob&access_token=hunter2&x=1", "hunter2"),
    case("url-code", "GET /callback?code=4x9hunter&scope=a", "4x9hunter", kept=("scope=a",)),
    case("url-signed", f"https://b.s3.amazonaws.com/o?X-Amz-Signature={HEX}&X-Amz-Credential=abc%2F2026", HEX),
    case("url-sas", "https://a.blob.core.windows.net/c?sv=2020&sig=kJ8f%2Bq3Zx0%3D&se=2026", "kJ8f%2Bq3Zx0"),
    case("go-mysql", "app:hunter2@tcp(db:3306)/shop", "hunter2", kept=("@tcp(db:3306)/shop",)),
    case("oracle", "jdbc:oracle:thin:scott/tiger77@//db:1521/x", "tiger77"),
    case("jdbc", "jdbc:sqlserver://db;user=sa;password=hunter2;encrypt=true", "hunter2"),
    case("odbc", 'Driver={ODBC};Server=db;Uid=sa;Pwd="hun;ter2";', "hun;ter2"),
    case("libpq", "host=db user=app password='hun ter2' dbname=shop", "hun ter2", kept=("dbname=shop",)),
    case("azure", f"AccountName=shop;AccountKey={BASE64}==;EndpointSuffix=core.windows.net", BASE64),
    case("service-bus", f"Endpoint=sb://x/;SharedAccessKeyName=root;SharedAccessKey={BASE64}=", BASE64),
    case("netrc", "machine git.example login bob password hunter2", "hunter2"),
    case("equals", "DB_PASSWORD=hunter2 LOG_LEVEL=info", "hunter2", kept=("LOG_LEVEL=info",)),
    case("equals-quoted", "export API_TOKEN='hun ter2'; run", "hun ter2", kept=("; run",)),
    case("equals-spaced", 'client_secret   =   "hunter2"', "hunter2"),
    case("camel-case", "dbPass=hunter2, authToken: xyzzy1", "hunter2", "xyzzy1"),
    case("colon", "  password: hunter2", "hunter2"),
    case("colon-words", "admin password: correct horse battery", "correct", "horse", "battery"),
    case("colon-tight", "user:bob password:hunter2", "hunter2"),
    case("rocket", "{:api_key=>'hunter2', :port=>80}", "hunter2", kept=(":port=>80",)),
    case("json", '{"user":"bob","password":"hun\\"ter2","n":1}', "hun", "ter2", kept=('"n":1',)),
    case("json-spaced", '{ "clientSecret" : "hunter2" }', "hunter2"),
    case("json-in-json", '{"msg":"{\\"password\\":\\"hunter2\\",\\"n\\":1}"}', "hunter2", kept=("n",)),
    case("json-number", '{"otp": 482913}', "482913"),
    case("json-list", '["mysqld", "--password", "hunter2", "--port", "80"]', "hunter2", kept=('"--port", "80"',)),
    case("python", "{'passwd': 'hunter2', 'port': 80}", "hunter2", kept=("'port': 80",)),
    case("python-bytes", "config(secret=b'hunter2')", "hunter2"),
    case("env-entry", '{"name":"DB_PASSWORD","value":"hunter2"}', "hunter2", kept=("DB_PASSWORD",)),
    case("env-entry-yaml", "- name: STRIPE_SECRET\n  value: hunter2\n- name: PORT", "hunter2", kept=("- name: PORT",)),
    case("env-entry-go", "{Name:DB_PASSWORD Value:hunter2 ValueFrom:nil}", "hunter2"),
    case("xml", "<password>hunter2</password><port>80</port>", "hunter2", kept=("<port>80</port>",)),
    case("flag", "mysqld --password hunter2 --port 80", "hunter2", kept=("--port 80",)),
    case("flag-equals", "app --db.auth-token=hunter2 --v=2", "hunter2", kept=("--v=2",)),
    case("percent-encoded", "body: user%3Dbob&password%3Dhunter2", "hunter2"),
    case("prose", "the new password is hunter2", "hunter2"),
    case("docker-auth", '{"auths":{"r.io":{"auth":"Ym9iOmh1bnRlcjI="}}}', "Ym9iOmh1bnRlcjI"),
    case("weak-key-hex", f"FOO_KEY={HEX}", HEX),
    case("weak-key-uuid", "routing key: 6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    case("aws-id", f"using {AWS_ID} for s3", AWS_ID, kept=("for s3",)),
    case("aws-key-bare", f"retry with {AWS_KEY}", AWS_KEY),
    case("aws-key", f"aws_secret_access_key = {AWS_KEY}", AWS_KEY),
    case("gcp-key", "AI" + "zaSyA-1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6", "SyA-1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"),
    case("gcp-oauth", "ya" + f"29.{RANDOM}", RANDOM),
    case("azure-client", "Abc8Q~" + RANDOM[:32], RANDOM[:32]),
    case("github", "cloning with gh" + f"p_{RANDOM}Ab", RANDOM),
    case("github-fine", "github" + f"_pat_11ABCDE_{RANDOM}", RANDOM),
    case("gitlab", "gl" + f"pat-{RANDOM[:20]}", RANDOM[:20]),
    case("slack", "xo" + f"xb-123456789012-{RANDOM[:24]}", RANDOM[:24]),
    case("slack-hook", "POST https://hooks.slack.com/services/T0AAAA/B0BBBB/abcdefgh", "T0AAAA", "abcdefgh", kept=("hooks.slack.com",)),
    case("discord-hook", "https://discord.com/api/webhooks/123456/abcdefgh", "abcdefgh"),
    case("telegram", "https://api.telegram.org/bot123456:ABC-DEF/getMe", "123456:ABC-DEF", kept=("/getMe",)),
    case("stripe", "sk" + f"_live_{RANDOM[:24]}", RANDOM[:24]),
    case("openai", "sk-" + f"proj-{RANDOM}", RANDOM),
    case("hugging-face", f"hf_{RANDOM}", RANDOM),
    case("sendgrid", f"SG.{RANDOM[:22]}.{RANDOM}", RANDOM[:22]),
    case("mailgun", f"key-{HEX}", HEX),
    case("twilio", f"SK{HEX}", HEX),
    case("npm", f"npm_{RANDOM}12", RANDOM),
    case("pypi", f"pypi-AgEIcHlwaS5vcmc{RANDOM}", RANDOM),
    case("docker-pat", f"dckr_pat_{RANDOM[:27]}", RANDOM[:27]),
    case("vault", f"hvs.{RANDOM}", RANDOM),
    case("databricks", f"dapi{HEX}", HEX),
    case("kubeadm", "kubeadm join --token abcdef.0123456789abcdef", "0123456789abcdef"),
    case("bcrypt", "root:$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", "R9h/cIPz0gi.URNNX3kh2OPST9"),
    case("age", "AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"),
    case("dense", f"value {BASE64}", BASE64),
    case("spaced-colon", "password : hunter2", "hunter2"),
    case("spaced-colon-token", "api token : hunter2xyz", "hunter2xyz"),
    case("yaml-block", "data:\n  password: |\n    hunter2\n    hunter3\n  port: 80", "hunter2", "hunter3", kept=("port: 80",)),
    case("yaml-block-token", "token: >-\n  hunter2\nport: 80", "hunter2", kept=("port: 80",)),
    case("json-percent-encoded", "q=%7B%22password%22%3A%22hunter2%22%7D", "hunter2"),
    case("json-in-html", "{&quot;password&quot;:&quot;hunter2&quot;}", "hunter2"),
    case("json-unicode-escaped", "{\\u0022secret\\u0022:\\u0022hunter2\\u0022}", "hunter2"),
    case("sshpass", "sshpass -p hunter2 ssh host", "hunter2"),
    case("mysql", "mysqladmin -u root -phunter2 ping", "hunter2"),
    case("prose-to", "setting the password to hunter2", "hunter2"),
    case("coloured", "\x1b[32mpass\x1b[0mword\x1b[1m=\x1b[31mhunter2\x1b[0m", "hunter2"),
    case("utf-16", "p\0a\0s\0s\0w\0o\0r\0d\0=\0h4nter\0", "h4nter"),
    case("zero-widths", "pass\u200bword\u2060=\u202ehunter2", "hunter2"),
    case("kubelet-event", 'Liveness probe failed: Get "http://bob:hunter2@10.0.0.7:80/": dial tcp', "hunter2", kept=("10.0.0.7:80",)),
    case("termination-message", f"panic: bad dsn: user=app pwd=hunter2 host=db key={HEX}", "hunter2", HEX, kept=("panic: bad dsn",)),
)

INNOCENT: tuple[str, ...] = (
    "pod web-7d4b9c8f5-x2v9k on node ip-10-0-3-17.eu-west-1.compute.internal",
    "request 550e8400-e29b-41d4-a716-446655440000 took 12 ms",
    "image nginx@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    'MountVolume.SetUp failed for volume "db-secret" : secret "db-password" not found',
    "couldn't find key DB_PASSWORD in Secret shop/db",
    'Failed to pull image "registry.example:5000/shop/web:v1.2.3": not found',
    "failed to sync secret cache timed out waiting for the condition",
    "org.springframework.aop.aspectj.annotation.AnnotationAwareAspectJAutoProxyCreator2.postProcess",
    "at AbstractHttp2ConnectionHandlerBuilderFactory.java:117",
    "GET http://web.shop:8080/api/v1/users?limit=10&page=2 200",
    "key=user:123 hit, state=running, code=503, hash=none",
    "bearer authentication is not configured; basic authentication failed",
    "bypass=true compass=north author=bob keyboard=us",
    "Readiness probe failed: HTTP probe failed with statuscode: 503",
    "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available",
    "panic: runtime error: index out of range [5] with length 3",
    "goroutine 1 [running]: main.main() /go/src/app/main.go:12 +0x1d",
    "mail bob@example.org, ssh git@github.com:shop/web.git",
    "Ünïcödé – 漢字 ✓",
)
