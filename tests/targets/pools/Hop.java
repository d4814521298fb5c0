import com.sun.net.httpserver.HttpServer;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.concurrent.Executors;

/** As app.py, with the JDK's server and client and a pool of eight threads. Prints its port. */
class Hop {
    static void ask(int backend, String place, String order) throws Exception {
        var url = URI.create("http://127.0.0.1:" + backend + "/" + place + "/" + order).toURL();
        var other = (HttpURLConnection) url.openConnection();
        other.getInputStream().readAllBytes();
    }

    public static void main(String[] arguments) throws Exception {
        int backend = Integer.parseInt(System.getenv("BACKEND"));
        var address = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
        var server = HttpServer.create(address, 128);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> {
            var order = exchange.getRequestURI().getPath().split("/")[2];
            try {
                ask(backend, "first", order);
                ask(backend, "second", order);
                exchange.sendResponseHeaders(200, 4);
                exchange.getResponseBody().write("done".getBytes());
            } catch (Exception failed) {
                exchange.sendResponseHeaders(502, -1);
            }
            exchange.close();
        });
        server.start();
        System.out.println(server.getAddress().getPort());
    }
}
