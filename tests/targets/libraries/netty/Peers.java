import io.netty.bootstrap.Bootstrap;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.handler.codec.http.*;
import io.netty.handler.ssl.SslContext;
import io.netty.handler.ssl.SslContextBuilder;
import io.netty.handler.ssl.SslProvider;
import io.netty.handler.ssl.util.InsecureTrustManagerFactory;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.util.function.Supplier;

/**
 * A server and a client of HTTPS by netty, whose TLS is BoringSSL's on memory that the event loop fills.
 *
 * <p>{@code Peers server FOLDER}: certificate in FOLDER; prints its port, then {@code METHOD TARGET STATUS} of each
 * request. A target {@code /bytes/N} is answered with N bytes.
 *
 * <p>{@code Peers client PORT CONNECTIONS REQUESTS}: prints {@code ready}, reads a line, sends the requests on each
 * connection, all connections at once, prints {@code METHOD TARGET STATUS} of each and {@code done}.
 */
public class Peers {
    public static void main(String[] arguments) throws Exception {
        NioEventLoopGroup group = new NioEventLoopGroup(2);
        if (arguments[0].equals("server")) {
            serve(group, arguments[1]);
        } else {
            int[] numbers = new int[3];
            for (int at = 0; at < 3; at++) numbers[at] = Integer.parseInt(arguments[at + 1]);
            ask(group, numbers[0], numbers[1], numbers[2]);
            System.exit(0);
        }
    }

    private static void serve(NioEventLoopGroup group, String folder) throws Exception {
        SslContext tls = SslContextBuilder.forServer(new File(folder, "cert.pem"), new File(folder, "key.pem"))
            .sslProvider(SslProvider.OPENSSL).build();
        Channel listening = new ServerBootstrap().group(group).channel(NioServerSocketChannel.class)
            .childHandler(handlers(tls, HttpServerCodec::new, Answering::new))
            .bind(new InetSocketAddress("127.0.0.1", 0)).sync().channel();
        System.out.println(((InetSocketAddress) listening.localAddress()).getPort());
        listening.closeFuture().sync();
    }

    private static void ask(NioEventLoopGroup group, int port, int connections, int requests) throws Exception {
        SslContext tls = SslContextBuilder.forClient().sslProvider(SslProvider.OPENSSL)
            .trustManager(InsecureTrustManagerFactory.INSTANCE).build();
        System.out.println("ready");
        new BufferedReader(new InputStreamReader(System.in)).readLine();
        Channel[] channels = new Channel[connections];
        for (int at = 0; at < connections; at++) {
            String name = "/" + at;
            channels[at] = new Bootstrap().group(group).channel(NioSocketChannel.class)
                .handler(handlers(tls, HttpClientCodec::new, () -> new Asking(name, requests)))
                .connect("127.0.0.1", port).sync().channel();
        }
        for (Channel channel : channels) channel.closeFuture().sync();
        System.out.println("done");
    }

    private static ChannelInitializer<Channel> handlers(
            SslContext tls, Supplier<ChannelHandler> codec, Supplier<ChannelHandler> last) {
        return new ChannelInitializer<Channel>() {
            @Override
            protected void initChannel(Channel channel) {
                channel.pipeline().addLast(
                    tls.newHandler(channel.alloc()), codec.get(), new HttpObjectAggregator(1 << 20), last.get());
            }
        };
    }

    private static class Answering extends SimpleChannelInboundHandler<FullHttpRequest> {
        @Override
        protected void channelRead0(ChannelHandlerContext context, FullHttpRequest request) {
            String target = request.uri();
            int size = target.startsWith("/bytes/") ? Integer.parseInt(target.substring(7)) : 5;
            FullHttpResponse response = new DefaultFullHttpResponse(
                HttpVersion.HTTP_1_1, HttpResponseStatus.OK, Unpooled.wrappedBuffer(new byte[size]));
            response.headers().set(HttpHeaderNames.CONTENT_LENGTH, size);
            System.out.println(request.method() + " " + target + " 200");
            context.writeAndFlush(response);
        }
    }

    private static class Asking extends SimpleChannelInboundHandler<FullHttpResponse> {
        private final String name;
        private final int requests;
        private int sent;

        Asking(String name, int requests) {
            this.name = name;
            this.requests = requests;
        }

        @Override
        public void channelActive(ChannelHandlerContext context) {
            next(context);
        }

        private void next(ChannelHandlerContext context) {
            sent++;
            FullHttpRequest request = new DefaultFullHttpRequest(
                HttpVersion.HTTP_1_1, HttpMethod.GET, name + "/" + sent);
            request.headers().set(HttpHeaderNames.HOST, "localhost");
            context.writeAndFlush(request);
        }

        @Override
        protected void channelRead0(ChannelHandlerContext context, FullHttpResponse response) {
            System.out.println("GET " + name + "/" + sent + " " + response.status().code());
            if (sent < requests) next(context);
            else context.close();
        }
    }
}
