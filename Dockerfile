# dimpoint serve. Build: docker build -t dimpoint . ; run: docker compose up
FROM python:3.12-slim

RUN useradd --create-home --uid 10001 dimpoint
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir -c constraints.txt '.[serve]' && rm -rf /src/*

USER 10001
WORKDIR /home/dimpoint
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
ENTRYPOINT ["dimpoint", "serve", "--host", "0.0.0.0", "--port", "8080"]
