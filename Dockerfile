# Serves the packaged model on the CPU: docker build -t lenet . && docker run -p 8000:8000 lenet
FROM python:3.12-slim
RUN useradd --create-home lenet
COPY . /src
# The compiler builds the kernels once, for the processor that the container runs on.
RUN pip install --no-cache-dir --constraint /src/constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu '/src[serve,compiler]'
USER lenet
WORKDIR /home/lenet
EXPOSE 8000
HEALTHCHECK CMD python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/live')"
CMD ["lenet", "serve", "--host", "0.0.0.0"]
