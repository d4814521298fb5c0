import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.time.Instant;
import java.util.Arrays;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Executors;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

/**
 * Answers as the plan of tests/src/plan.rs wants it, with the JDK's own HttpServer, and logs it.
 *
 * <p>Server LOG [FOLDER]: with FOLDER over TLS, by the keystore.p12 in it.
 */
class Server {
    static FileOutputStream log;

    static long now() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1_000_000_000L + now.getNano();
    }

    static void answer(HttpExchange exchange) throws IOException {
        long begin = now();
        long stopwatch = System.nanoTime();
        String target = exchange.getRequestURI().toString();
        long received = 0;
        try (InputStream body = exchange.getRequestBody()) {
            byte[] piece = new byte[4096];
            for (int size = body.read(piece); size > 0; size = body.read(piece)) {
                received += size;
            }
        }
        String[] path = exchange.getRequestURI().getPath().split("/");
        String kind = path[1];
        int status = Map.of("nothing", 204, "same", 304, "missing", 404, "broken", 500).getOrDefault(kind, 200);
        int size = path.length > 2 ? Integer.parseInt(path[2]) : Set.of("empty", "nothing", "same").contains(kind) ? 0 : 5;
        int wait = target.indexOf("wait=");
        if (wait > 0) {
            try {
                Thread.sleep(Integer.parseInt(target.substring(wait + 5)));
            } catch (InterruptedException e) {
                throw new IOException(e);
            }
        }
        if (kind.equals("close") || "close".equals(exchange.getRequestHeaders().getFirst("Connection"))) {
            exchange.getResponseHeaders().set("Connection", "close");
        }
        byte[] content = new byte[4096];
        Arrays.fill(content, (byte) 'x');
        if (exchange.getRequestMethod().equals("HEAD")) {
            exchange.getResponseHeaders().set("Content-Length", Integer.toString(size));
            size = 0;
        }
        // In its words 0 is chunked and -1 is none.
        exchange.sendResponseHeaders(status, kind.equals("chunked") ? 0 : size == 0 ? -1 : size);
        try (OutputStream body = exchange.getResponseBody()) {
            for (int at = 0; at < size; at += content.length) {
                body.write(content, 0, Math.min(content.length, size - at));
            }
        }
        exchange.close();
        String line = String.format("{\"method\":\"%s\",\"target\":\"%s\",\"status\":%d,\"request\":%d,\"response\":%d,\"begin\":%d,\"ns\":%d}%n",
            exchange.getRequestMethod(), target, status, received, size, begin, System.nanoTime() - stopwatch);
        log.write(line.getBytes(StandardCharsets.UTF_8));
    }

    public static void main(String[] arguments) throws Exception {
        log = new FileOutputStream(arguments[0], true);
        InetSocketAddress address = new InetSocketAddress("127.0.0.1", 0);
        HttpServer server;
        if (arguments.length > 1) {
            char[] password = "changeit".toCharArray();
            KeyStore store = KeyStore.getInstance("PKCS12");
            store.load(new FileInputStream(arguments[1] + "/keystore.p12"), password);
            KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
            keys.init(store, password);
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(keys.getKeyManagers(), null, null);
            HttpsServer https = HttpsServer.create(address, 0);
            https.setHttpsConfigurator(new HttpsConfigurator(context));
            server = https;
        } else {
            server = HttpServer.create(address, 0);
        }
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", Server::answer);
        server.start();
        System.out.println(server.getAddress().getPort());
    }
}
